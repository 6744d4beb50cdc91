-- control: a request for a worker, which gets it with its next beat.
-- KEYS  index, workers, the worker's inbox
-- ARGV  worker, request
-- Returns 1, or 0 when it is unknown or was declared dead.
local beats = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not beats or tonumber(beats) < 0 then return 0 end
redis.call('PERSIST', KEYS[1])
redis.call('RPUSH', KEYS[3], ARGV[2])
return 1
