-- claim: promotes what is due, then hands messages to one worker: returned ones first, then by priority, within a
-- budget. Empty-handed it registers the worker as a sleeper and says when the next task is due.
-- KEYS  index, ready, due, workers, outcomes, recorder, paused, cancels; for each queue: lanes, scheduled, messages,
--       sleepers, wake
-- ARGV  worker, most messages, most bytes, sleeper's lease in ms (0: no sleep), '1' when it was asleep, bound of
--       unrecorded outcomes, prefix of lanes, position of the first queue, limits of queues (core/gates.py) or '', then
--       the queues
-- Returns {-1} the worker was declared dead, {-2} too many unrecorded outcomes, or
--         {1, time in us, next due time in ms or -1, groups}, group = {lane, losses, verdict, entries},
--         verdict = 0 to be run, 1 cancel was requested, 2 its place is taken (on_conflict), 3 a newer call replaces it
-- @include index
-- @include clock
-- @include wake
-- @include lanes
local index, ready_key, due_key, workers, cancels = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[8]
local worker, left, bytes, lease, prefix = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[7]
local FIRST_KEY, FIRST_QUEUE = 8, 9
local queues = #ARGV - FIRST_QUEUE

redis.call('PERSIST', index) -- exempt from maxmemory: lets the rest through when memory is full
local beat = redis.call('ZSCORE', workers, worker)
if not beat or tonumber(beat) < 0 then return {-1} end
local recorded = tonumber(redis.call('HGET', KEYS[6], 'lingering') or 0)
if redis.call('XLEN', KEYS[5]) - recorded >= tonumber(ARGV[6]) then return {-2} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function keys_of(position)
  local base = FIRST_KEY + (position - 1) * 5
  return KEYS[base + 1], KEYS[base + 2], KEYS[base + 3], KEYS[base + 4], KEYS[base + 5]
end
local function members(key)
  local set = {}
  for _, member in ipairs(redis.call('SMEMBERS', key)) do set[member] = true end
  return set
end

if ARGV[5] == '1' then
  for position = 1, queues do
    local _, _, _, sleepers = keys_of(position)
    redis.call('ZREM', sleepers, worker)
  end
end

local paused, paused_tasks = members(KEYS[7]), false
for name in pairs(paused) do paused_tasks = paused_tasks or string.sub(name, 1, 5) == 'task:' end

-- What only some claims do is made for those alone.
local due = redis.call('ZRANGEBYSCORE', due_key, '-inf', now)
if #due > 0 then
-- @include unpacked
-- @include promote
-- @include promote_due
  promote_due(due)
end

local queue, suffix, gates -- `gates`: what decides about each message of the lane at hand; nil where nothing does
local K = {index = index, due = due_key} -- and the keys of the queue at hand
local micros = time[1] * 1000000 + time[2]
local queue_gates = ARGV[9] ~= '' and cmsgpack.unpack(ARGV[9]) or {}
-- @include gatekeeper
-- @include hand_over
-- @include turns
local ready = members(ready_key)
for offset = 0, queues - 1 do
  local position = (tonumber(ARGV[8]) + offset) % queues + 1
  queue = ARGV[FIRST_QUEUE + position]
  if ready[queue] and not paused[queue] then
    local lanes, scheduled, messages, sleepers, wake = keys_of(position)
    K.scheduled, K.messages, K.sleepers, K.wake = scheduled, messages, sleepers, wake
    take_from(lanes)
    -- What is left behind is for another worker.
    if is_used_up() then wake_sleepers(sleepers, wake, 1, now) end
  end
end

if #groups > 0 and ARGV[5] == '1' then
-- @include watch
  pass_on_watch()
end
local next_due = -1
if #groups == 0 then
-- @include fall_asleep
  next_due = fall_asleep()
end
return {1, micros, next_due, groups}
