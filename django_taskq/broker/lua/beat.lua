-- beat: workers are alive; each gets the requests that wait for it. A request leaves the inbox only with a later beat that
-- says it was received: a lost reply loses none.
-- KEYS  index, workers, then for each worker: its hash, its inbox
-- ARGV  for each worker: worker, number of requests it has received so far, number of values, values (fields of the hash)
-- Returns for each: {1, number of requests before these, requests ...}, or {0} when it was declared dead or is unknown.
redis.call('PERSIST', KEYS[1])
local now = redis.call('TIME')[1]
local at, key, replies = 1, 3, {}
while at <= #ARGV do
  local worker, received, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local beats = redis.call('ZSCORE', KEYS[2], worker)
  local reply = {0}
  if beats and tonumber(beats) >= 0 then
    local before = tonumber(redis.call('HGET', KEYS[key], 'received') or 0)
    if received > before then redis.call('LTRIM', KEYS[key + 1], received - before, -1) end
    before = math.max(before, received)
    redis.call('ZINCRBY', KEYS[2], 1, worker)
    redis.call('HSET', KEYS[key], 'beat', now, 'received', before, unpack(ARGV, at + 3, at + 2 + count))
    reply = {1, before, unpack(redis.call('LRANGE', KEYS[key + 1], 0, 499))}
  end
  replies[#replies + 1] = reply
  at, key = at + 3 + count, key + 2
end
return replies
