-- Concurrency limits. A limit is a hash of its holders, id -> location of the delivery, '' while the message is on its
-- way back to a worker with its place reserved. `holds` says by id what a task holds, so that whatever ends a delivery
-- knows what to give back. The longest parked message gets the place.
local HOLDS = NS .. 'holds'

local function hold(limit, id, location)
  redis.call('HSET', NS .. 'limit:' .. limit, id, location)
  redis.call('SADD', LIMITS, limit)
  local held = redis.call('HGET', HOLDS, id)
  if not held then
    held = limit
  elseif not string.find('\n' .. held .. '\n', '\n' .. limit .. '\n', 1, true) then
    held = held .. '\n' .. limit
  end
  redis.call('HSET', HOLDS, id, held)
end

-- Hands free places to who waits, the longest first, some in a call. `most`: the limit's size as the caller knows it, and
-- each waiting message knows one; but they may be declared.
local MOST_FILLED = 1000

local function fill(limit, most)
  local holders, waiting = NS .. 'limit:' .. limit, NS .. 'waiting:' .. limit
  local id = redis.call('ZRANGE', waiting, 0, 0)[1]
  while id and unparked < MOST_FILLED do
    local packed = parked_message(id)
    local _, max = parking_of(unpacked(packed) or {}, 2)
    local places = places_of(limit, math.max(most or 0, tonumber(max or 1)))
    if packed and redis.call('HLEN', holders) >= places then return end
    redis.call('ZREM', waiting, id) -- what is parked no more leaves the list without a place
    if packed and unpark(id) then hold(limit, id, '') end
    id = redis.call('ZRANGE', waiting, 0, 0)[1]
  end
  if not id and redis.call('EXISTS', holders) == 0 then redis.call('SREM', LIMITS, limit) end
end

local function is_holder(limit, id)
  return redis.call('HEXISTS', NS .. 'limit:' .. limit, id) == 1
end

local function has_room(limit, max)
  fill(limit, max)
  return redis.call('HLEN', NS .. 'limit:' .. limit) < places_of(limit, max)
end

-- Tasks whose deliveries are over give back what they held.
local function give_back(ids)
  for position, held in ipairs(redis.call('HMGET', HOLDS, unpack(ids))) do
    if held then
      redis.call('HDEL', HOLDS, ids[position])
      for limit in string.gmatch(held, '[^\n]+') do
        redis.call('HDEL', NS .. 'limit:' .. limit, ids[position])
        fill(limit)
      end
    end
  end
end
