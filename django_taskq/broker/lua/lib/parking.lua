-- Parked messages wait outside the lanes until something lets them go on: a hash of messages and a zset of ids for each
-- queue, like the schedule's, and a zset of ids for each thing waited for. Field z of a parked message says
-- `<sequence> <max> <limit>`; the sequence stays its own however often it is parked, and with it its place in the order.
-- All names are those of broker/keys.py, beside the index.
local NS = string.sub(KEYS[1], 1, -6)
local LIMITS = NS .. 'limits'
local unparked, sequence = 0, nil

local function next_sequence()
  local time = redis.call('TIME')
  sequence = math.max(time[1] * 1000000 + time[2], (sequence or 0) + 1)
  return number(sequence)
end

local function parking_of(fields, first)
  return string.match(value_of(fields, 'z', first) or '', '^(%d+) (%d+) (.+)$')
end

local function park(id, queue, suffix, fields, limit, max)
  local since = parking_of(fields) or next_sequence()
  set_value(fields, 'z', since .. ' ' .. number(max) .. ' ' .. limit)
  redis.call('ZADD', NS .. 'parked:' .. queue, since, id)
  redis.call('HSET', NS .. 'parked:' .. queue .. ':messages', id, cmsgpack.pack({suffix, unpack(fields)}))
  redis.call('ZADD', NS .. 'waiting:' .. limit, since, id)
  redis.call('SADD', LIMITS, limit)
  set_location(KEYS[1], id, 'p' .. queue)
end

-- The packed message of a parked task, and its queue; nil when it is not parked.
local function parked_message(id)
  local queue = string.match(location_of(KEYS[1], id) or '', '^p(.+)$')
  return queue and redis.call('HGET', NS .. 'parked:' .. queue .. ':messages', id), queue
end

local function leave_parking(id, queue)
  local parked = NS .. 'parked:' .. queue
  local _, _, limit = parking_of(unpacked(redis.call('HGET', parked .. ':messages', id)) or {}, 2)
  if limit then redis.call('ZREM', NS .. 'waiting:' .. limit, id) end
  redis.call('ZREM', parked, id)
  redis.call('HDEL', parked .. ':messages', id)
end

-- Back to the end of its lane, changed by `change(message)` if given. False: it was not parked.
local function unpark(id, change)
  local packed, queue = parked_message(id)
  if not packed then return false end
  local message = unpacked(packed) or {queue .. ':0', 'i', id, 'broken', packed}
  leave_parking(id, queue)
  if change then change(message) end
  local suffix = message[1]
  local lane, lanes = NS .. 'queue:' .. suffix, NS .. 'lanes:' .. queue
  open_lane(lane, lanes, suffix, NS .. 'ready', queue)
  set_location(KEYS[1], id, redis.call('XADD', lane, '*', unpack(message, 2)) .. ' ' .. suffix)
  wake_sleepers(NS .. 'sleepers:' .. queue, NS .. 'wake:' .. queue, 1, now_ms())
  unparked = unparked + 1
  return true
end

-- Those who wait for what needs no place go on.
local function resume_waiting(limit, most)
  local waiting = NS .. 'waiting:' .. limit
  for _, id in ipairs(redis.call('ZRANGE', waiting, 0, most - 1)) do
    unpark(id)
    redis.call('ZREM', waiting, id)
  end
  if redis.call('EXISTS', waiting) == 0 then redis.call('SREM', LIMITS, limit) end
end
