-- complete: runs that ended without a dead letter (succeeded, cancelled, expired, discarded), each only if this worker
-- still holds its delivery.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, worker, then for each: entry, id, state, outcome, idempotency key or '', ttl in ms or '0',
--       activity (core/activity.py)
-- Returns a flat list of position, code for what was not settled: 0 the delivery is no longer this worker's,
--         3 another entry of this id has ended it, and this one was removed.
-- @include index
-- @include clock
-- @include lanes
-- @include places
-- @include lane_keys
-- @include held
-- @include leave
-- @include settle
-- @include finish
-- @include minute
-- @include activity
redis.call('PERSIST', K.index)
local refused = settle_each(7, function(id, at)
  finish(id, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
  tally_activity(ARGV[at + 6])
end)
write_ends()
give_back_places(ended)
write_activity()
return refused
