-- A lane is a stream that exists while it holds entries; its queue lists it, and `ready` lists the queue. One that
-- another producer began with a bare XADD exists before it is listed.
local function is_suffix(text)
  return string.find(text, '^[^:]+:%-?%d+$') or string.find(text, '^[^:]+:%-?%d+:%a%w*$')
end

local function priority_of(suffix)
  return string.match(suffix, '^[^:]+:(%-?%d+)')
end

local function open_lane(lane, lanes, priority, ready, queue)
  if redis.call('ZSCORE', lanes, lane) then return end
  if redis.call('EXISTS', lane) == 0 then redis.call('XGROUP', 'CREATE', lane, 'workers', '0', 'MKSTREAM') end
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
