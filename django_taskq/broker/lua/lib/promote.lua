-- Moves up to `most` due tasks of one queue from the schedule to their lanes, about 1 MiB in all queues; returns how
-- many.
local promotable = 1048576

local function promote(queue, lanes, scheduled, messages, now, most)
  local opened, ids = {}, {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, most)) do
    if promotable <= 0 then break end
    local packed = redis.call('HGET', messages, id)
    -- What cannot be read goes on as it is: the worker buries it as malformed.
    local message = unpacked(packed) or {queue .. ':0', 'i', id, 'broken', packed or ''}
    local suffix = message[1]
    local lane = ARGV[7] .. suffix
    if not opened[lane] then
      open_lane(lane, lanes, suffix, KEYS[2], queue)
      opened[lane] = true
    end
    local entry = redis.call('XADD', lane, '*', unpack(message, 2))
    set_location(KEYS[1], id, entry .. ' ' .. suffix)
    ids[#ids + 1] = id
    promotable = promotable - #(packed or '')
  end
  if #ids > 0 then
    redis.call('ZREM', scheduled, unpack(ids))
    redis.call('HDEL', messages, unpack(ids))
  end
  local first = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', KEYS[3], first[2], queue) else redis.call('ZREM', KEYS[3], queue) end
  return #ids
end
