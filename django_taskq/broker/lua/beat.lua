-- beat: workers are alive; each gets the requests that wait for it.
-- KEYS  index, workers, then for each worker: its hash, its inbox
-- ARGV  for each worker: worker, number of values, values (fields of the hash)
-- Returns for each: {1, requests ...}, or {0} when it was declared dead or is unknown.
redis.call('PERSIST', KEYS[1])
local now = redis.call('TIME')[1]
local at, key, replies = 1, 3, {}
while at <= #ARGV do
  local worker, count = ARGV[at], tonumber(ARGV[at + 1])
  local beats = redis.call('ZSCORE', KEYS[2], worker)
  local reply = {0}
  if beats and tonumber(beats) >= 0 then
    redis.call('ZINCRBY', KEYS[2], 1, worker)
    redis.call('HSET', KEYS[key], 'beat', now, unpack(ARGV, at + 2, at + 1 + count))
    reply = {1, unpack(redis.call('LRANGE', KEYS[key + 1], 0, 499))}
    if #reply > 1 then redis.call('LTRIM', KEYS[key + 1], #reply - 1, -1) end
  end
  replies[#replies + 1] = reply
  at, key = at + 2 + count, key + 2
end
return replies
