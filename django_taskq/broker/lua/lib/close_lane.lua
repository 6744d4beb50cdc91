-- A lane goes with its last entry, and its queue out of `ready` with its last lane. Returns whether it did.
local function close_empty_lane(lane, lanes, ready, queue)
  if redis.call('XLEN', lane) > 0 then return false end
  redis.call('DEL', lane)
  redis.call('ZREM', lanes, lane)
  if redis.call('EXISTS', lanes) == 0 then redis.call('SREM', ready, queue) end
  return true
end
