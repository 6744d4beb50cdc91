-- Leaves min(messages, sleepers) tokens in all: one BLPOP of a sleeping worker takes one. Tokens that nobody takes
-- vanish with the longest sleep.
local function wake_sleepers(sleepers, wake, messages, now)
  local asleep = redis.call('ZCARD', sleepers)
  if asleep == 0 then return end
  asleep = asleep - redis.call('ZREMRANGEBYSCORE', sleepers, '-inf', now)
  if asleep == 0 then return end
  local missing = math.min(messages, asleep) - redis.call('LLEN', wake)
  for _ = 1, missing do redis.call('RPUSH', wake, '') end
  redis.call('PEXPIRE', wake, 10000) -- older ones, too: somebody may be about to take them
end
