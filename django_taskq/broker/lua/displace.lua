-- displace: enqueue for a queue with a maximum length whose oldest tasks make room: they become dead letters. Whoever
-- sends makes their outcomes: he is told which tasks these would be, and calls again with them.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, the queue's maximum length, number of tasks that may go, for each: id, location as the
--       caller saw it, outcome, idempotency key or '', activity (core/activity.py); then the messages (lib/admit.lua)
-- Returns {1, positions of those that went, as enqueue.lua} when the messages were accepted, or
--         {0, positions of those that went, tasks that wait, messages that are new, the oldest tasks (lib/oldest.lua)}
-- @include index
-- @include clock
-- @include wake
-- @include lanes
-- @include close_lane
-- @include lane_keys
-- @include schedule
-- @include minute
-- @include admit
-- @include admit_each
-- @include room
-- @include gcra
-- @include refusal
-- @include held
-- @include unpacked
-- @include places
-- @include finish
-- @include activity
-- @include waiting
-- @include oldest
local most, offered = tonumber(ARGV[FIRST]), tonumber(ARGV[FIRST + 1])
local first = FIRST + 2 + offered * 5
local MOST_AT_ONCE = 100

-- Where an offered task still waits: its entry and lane, or outside the lanes.
local function still_waits(id, location)
  if is_over[id] or location_of(K.index, id) ~= location then return false end
  local entry, place = string.match(location, '^(%d+%-%d+) (.+)$')
  if location == 'p' .. queue then return true end
  if not entry then return redis.call('ZSCORE', K.scheduled, id) and location == 's' .. queue end
  local lane = string.sub(K.lane, 1, -1 - #suffix) .. place
  local owner = holder(lane, entry)
  return (not owner or owner == 'returned') and place:sub(1, #queue + 1) == queue .. ':', entry, lane
end

local function drop(at)
  local id = ARGV[at]
  local waits, entry, lane = still_waits(id, ARGV[at + 1])
  if not waits then return false end
  if entry then
    redis.call('XACK', lane, 'workers', entry)
    redis.call('XDEL', lane, entry)
    close_empty_lane(lane, K.lanes, K.ready, queue)
  elseif string.sub(ARGV[at + 1], 1, 1) == 'p' then
    place_keeper().leave_parking(id, queue)
  else
    redis.call('ZREM', K.scheduled, id)
    redis.call('HDEL', K.messages, id)
  end
  finish(id, 'failed', ARGV[at + 2], ARGV[at + 3], '0')
  tally_activity(ARGV[at + 4])
  counts['dead:dropped'] = (counts['dead:dropped'] or 0) + 1
  return true
end

local refusal = string.find(ARGV[2], ':g', 1, true) and refused(first)
if refusal then return {1, {}, refusal} end
local new = count_new(first)
local excess = length_of_queue(most - new) + new - most
-- A write that changes nothing and that a full memory refuses, as it refuses every producer: what follows begins with
-- one that it would let through.
redis.call('ZADD', K.lanes, 'XX', 'INCR', 0, K.lane)
local gone = {}
for position = 0, offered - 1 do
  if excess > 0 and new > 0 and new <= most and drop(FIRST + 2 + position * 5) then
    gone[#gone + 1] = position
    excess = excess - 1
  end
end
if new <= most and excess <= 0 then note_length(new) end
note_length(-#gone)
write_ends()
give_back_places(ended)
write_activity()
if new == 0 or excess <= 0 then
  take_rates()
  return {1, gone, admit_each(first)}
end
local candidates = new <= most and find_oldest(math.min(excess, MOST_AT_ONCE)) or {}
return {0, gone, excess + most - new, new, candidates}
