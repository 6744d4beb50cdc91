-- bury: runs that end in the dead letters, each only if this worker still holds its delivery.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, worker, then for each: entry, id, reason, outcome, idempotency key or '', activity
--       (core/activity.py)
-- Returns a flat list of position, code for what was not settled: 0 the delivery is no longer this worker's,
--         3 another entry of this id has ended it, and this one was removed, 4 this entry is malformed, carries the id and
--         is not what the index knows by it.
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
local UNCONFIRMED = 4

local function is_anothers(entry, id)
  return location_of(K.index, id) ~= entry .. ' ' .. suffix and carries(entry, id)
end

redis.call('PERSIST', K.index)
local refused = settle_each(6, function(id, at)
  finish(id, 'failed', ARGV[at + 3], ARGV[at + 4], '0')
  tally_activity(ARGV[at + 5])
  local reason = 'dead:' .. ARGV[at + 2]
  counts[reason] = (counts[reason] or 0) + 1
end, function(entry, id, at)
  return ARGV[at + 2] == 'malformed' and is_anothers(entry, id) and UNCONFIRMED
end)
write_ends()
give_back_places(ended)
write_activity()
return refused
