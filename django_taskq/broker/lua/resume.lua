-- resume: a paused queue is claimed from again.
-- KEYS  paused, lanes, sleepers, wake
-- ARGV  queue
-- Returns 1 when it was paused.
-- @include clock
-- @include wake
local was = redis.call('SREM', KEYS[1], ARGV[1])
local messages = 0
for _, lane in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do messages = messages + redis.call('XLEN', lane) end
-- Sleepers do not know when a paused queue's next task is due: one looks even if nothing is ready.
wake_sleepers(KEYS[3], KEYS[4], math.max(1, messages), now_ms())
return was
