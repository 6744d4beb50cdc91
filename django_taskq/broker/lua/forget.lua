-- forget: a worker that was declared dead and holds nothing leaves the register.
-- KEYS  workers, the worker's hash, its inbox
-- ARGV  worker
local beats = redis.call('ZSCORE', KEYS[1], ARGV[1])
if beats and tonumber(beats) >= 0 then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3])
return 1
