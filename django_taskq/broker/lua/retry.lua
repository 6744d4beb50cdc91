-- retry: failed attempts go back to the schedule with their new message, each only if this worker still holds its
-- delivery and nobody asked to cancel it.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, worker, then for each: entry, id, delay in ms, activity (core/activity.py),
--       number of values, values (the message's fields)
-- Returns a flat list of position, code for what was not settled: 0 no longer this worker's, 2 cancel was requested,
--         3 another entry of this id has ended it, and this one was removed.
-- @include index
-- @include clock
-- @include wake
-- @include lanes
-- @include places
-- @include lane_keys
-- @include held
-- @include leave
-- @include schedule
-- @include minute
-- @include activity
local CANCEL_REQUESTED = 2
redis.call('PERSIST', K.index)
local now = now_ms()
local worker, entries, ids, seen, refused = ARGV[FIRST], {}, {}, {}, {}
local at, position = FIRST + 1, 0
while at <= #ARGV do
  local entry, id, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 4])
  local code = seen[entry] and LOST or standing(worker, entry, id)
  if code == HELD and redis.call('HEXISTS', K.cancels, id) == 1 then code = CANCEL_REQUESTED end
  if code == HELD or code == DUPLICATE then
    seen[entry] = true
    entries[#entries + 1] = entry
  end
  if code == HELD then
    ids[#ids + 1] = id
    schedule(id, now + tonumber(ARGV[at + 2]), {unpack(ARGV, at + 5, at + 4 + count)}, now)
    tally_activity(ARGV[at + 3])
  else
    refused[#refused + 1] = position
    refused[#refused + 1] = code
  end
  at, position = at + 5 + count, position + 1
end
leave_lane(entries)
give_back_places(ids)
if #ids > 0 then redis.call('HINCRBY', K.totals, queue .. ':retried', #ids) end
write_activity()
return refused
