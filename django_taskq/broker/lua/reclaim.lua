-- reclaim: deliveries of a worker that was declared dead go back to one queue, in place. Only what it was running
-- counts as a loss. Its consumer is deleted where nothing is pending any more.
-- KEYS  index, workers, the worker's hash, lanes, sleepers, wake
-- ARGV  worker, most messages, prefix of lanes
-- Returns how many were reclaimed; call again while it is as many as asked for.
-- @include clock
-- @include wake
-- @include lanes
-- @include shares
redis.call('PERSIST', KEYS[1])
local worker, left = ARGV[1], tonumber(ARGV[2])
local beats = redis.call('ZSCORE', KEYS[2], worker)
if not beats or tonumber(beats) >= 0 then return 0 end
local running = {}
for location in string.gmatch(redis.call('HGET', KEYS[3], 'running') or '', '[^\n]+') do running[location] = true end
local reclaimed = 0
for _, lane in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  local suffix = string.sub(lane, #ARGV[3] + 1)
  local pending = redis.pcall('XPENDING', lane, 'workers', '-', '+', left, worker)
  if not pending.err then
    for _, item in ipairs(pending) do
      local entry, deliveries = item[1], item[4]
      if running[entry .. ' ' .. suffix] then deliveries = deliveries + 1 end
      redis.call('XCLAIM', lane, 'workers', 'returned', 0, entry, 'JUSTID', 'RETRYCOUNT', deliveries)
    end
    if #pending > 0 and tonumber(redis.call('ZSCORE', KEYS[4], lane)) < IDLE then -- that share is in line again
      redis.call('ZADD', KEYS[4], last_turn(priority_of(suffix)), lane)
    end
    left, reclaimed = left - #pending, reclaimed + #pending
    if left <= 0 then break end
    redis.call('XGROUP', 'DELCONSUMER', lane, 'workers', worker)
  end
end
if reclaimed > 0 then wake_sleepers(KEYS[5], KEYS[6], reclaimed, now_ms()) end
return reclaimed
