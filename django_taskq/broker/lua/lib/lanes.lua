-- A lane is a stream that exists while it holds entries; its queue lists it, and `ready` lists the queue.
local function open_lane(lane, lanes, priority, ready, queue)
  if redis.call('EXISTS', lane) == 1 then return end
  redis.call('XGROUP', 'CREATE', lane, 'workers', '0', 'MKSTREAM')
  redis.call('ZADD', lanes, priority, lane)
  redis.call('SADD', ready, queue)
end

local function close_empty_lane(lane, lanes, ready, queue)
  if redis.call('XLEN', lane) > 0 then return false end
  redis.call('DEL', lane)
  redis.call('ZREM', lanes, lane)
  if redis.call('EXISTS', lanes) == 0 then redis.call('SREM', ready, queue) end
  return true
end
