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
-- @include lane_keys
-- @include held
-- @include leave
-- @include finish
-- @include minute
-- @include activity
local UNCONFIRMED = 4

local function is_anothers(entry, id)
  return location_of(K.index, id) ~= entry .. ' ' .. suffix and carries(entry, id)
end

redis.call('PERSIST', K.index)
local worker, entries, seen, refused = ARGV[FIRST], {}, {}, {}
for at = FIRST + 1, #ARGV, 6 do
  local entry, id = ARGV[at], ARGV[at + 1]
  local code = seen[entry] and LOST or standing(worker, entry, id)
  if code ~= LOST and ARGV[at + 2] == 'malformed' and is_anothers(entry, id) then code = UNCONFIRMED end
  if code == HELD or code == DUPLICATE then
    seen[entry] = true
    entries[#entries + 1] = entry
  end
  if code == HELD then
    finish(id, 'failed', ARGV[at + 3], ARGV[at + 4], '0')
    tally_activity(ARGV[at + 5])
    counts['dead:' .. ARGV[at + 2]] = (counts['dead:' .. ARGV[at + 2]] or 0) + 1
  else
    refused[#refused + 1] = (at - FIRST - 1) / 6
    refused[#refused + 1] = code
  end
end
leave_lane(entries)
count_finished()
write_activity()
return refused
