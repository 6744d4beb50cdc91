-- inspect: the state of queues, at one moment and in one round trip; reads only. Its cost grows with the number of lanes,
-- not of messages.
-- KEYS  paused, for each queue: lanes, scheduled, parked
-- ARGV  the queues
-- Returns for each queue: {paused 1/0, scheduled, first due time in ms or '', parked, lane ...}, lane = {name,
--         length, pending with workers, returned, oldest waiting entry or ''}
--         Past MOST_LANES lanes, shares are one lane for each priority, and all that is in them counts as waiting.
-- @include waiting
local MOST_LANES = 256

local function look(lane)
  local pending = redis.pcall('XPENDING', lane, 'workers')
  local held, returned = 0, 0
  if not pending.err and pending[1] > 0 then
    for _, consumer in ipairs(pending[4]) do
      if consumer[1] == 'returned' then returned = tonumber(consumer[2]) else held = held + tonumber(consumer[2]) end
    end
  end
  return {lane, redis.call('XLEN', lane), held, returned, first_waiting(lane)}
end

local replies = {}
for position, queue in ipairs(ARGV) do
  local lanes, scheduled, parked = KEYS[position * 3 - 1], KEYS[position * 3], KEYS[position * 3 + 1]
  local first = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')
  local reply = {
    redis.call('SISMEMBER', KEYS[1], queue), redis.call('ZCARD', scheduled), first[2] or '', redis.call('ZCARD', parked),
  }
  local rest = {}
  for number, lane in ipairs(redis.call('ZREVRANGE', lanes, 0, -1)) do
    local level = number > MOST_LANES and string.match(lane, '^(.+:%-?%d+):%w+$')
    if not level then
      reply[#reply + 1] = look(lane)
    else
      rest[level] = (rest[level] or 0) + redis.call('XLEN', lane)
    end
  end
  for level, length in pairs(rest) do reply[#reply + 1] = {level, length, 0, 0, ''} end
  replies[#replies + 1] = reply
end
return replies
