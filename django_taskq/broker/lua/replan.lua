-- replan: messages that wait for a moment of a rate which has changed go back to their lanes, in order, and will be given
-- another one.
-- KEYS  index, ready, declared, schedule and messages of a queue, its lanes, sleepers, wake
-- ARGV  queue, position from which 500 of its schedule are looked at, about 1 MiB, then limits: of tasks, or of the queue
-- Returns {messages looked at, how many went back}
-- @include index
-- @include clock
-- @include wake
-- @include lanes
-- @include unpacked
-- @include fields
local MOST, bytes = 500, 1048576
redis.call('PERSIST', KEYS[1])
local prefix, queue, moved = string.sub(KEYS[1], 1, -6) .. 'queue:', ARGV[1], 0
local intervals = {}
for at = 3, #ARGV do
  local since, interval = string.match(redis.call('HGET', KEYS[3], 'r:' .. ARGV[at]) or '', '^(%d+) (%d+)')
  intervals[ARGV[at]] = since and interval
end

-- Field c: a slot for each rate, the task's first and the queue's last, then their intervals (lib/rate.lua).
local function is_changed(message)
  local numbers = {}
  for text in string.gmatch(value_of(message, 'c', 2) or '', '%d+') do numbers[#numbers + 1] = text end
  local of_task = intervals['task:' .. (value_of(message, 't', 2) or '')]
  local of_queue = intervals['queue:' .. queue]
  local function differs(interval, position) return interval and numbers[position] and numbers[position] ~= interval end
  return differs(of_task, #numbers / 2 + 1) or differs(of_queue, #numbers)
end

local function back_to_lane(id, message)
  set_value(message, 'c', '', 2)
  local suffix = message[1]
  local lane = prefix .. suffix
  open_lane(lane, KEYS[6], suffix, KEYS[2], queue)
  set_location(KEYS[1], id, redis.call('XADD', lane, '*', unpack(message, 2)) .. ' ' .. suffix)
  redis.call('ZREM', KEYS[4], id)
  redis.call('HDEL', KEYS[5], id)
  moved = moved + 1
end

local looked = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[4], ARGV[2], ARGV[2] + MOST - 1)) do
  if bytes <= 0 then break end
  local packed = redis.call('HGET', KEYS[5], id)
  local message = unpacked(packed)
  if message and is_changed(message) then back_to_lane(id, message) end
  looked, bytes = looked + 1, bytes - #(packed or '')
end
if moved > 0 then wake_sleepers(KEYS[7], KEYS[8], moved, now_ms()) end
return {looked, moved}
