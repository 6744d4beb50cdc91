-- register: a new worker, beat counter 0. An id is never used twice.
-- KEYS  index, workers, the worker's hash
-- ARGV  worker, then fields of the hash
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[2], 'NX', 0, ARGV[1])
if #ARGV > 1 then redis.call('HSET', KEYS[3], unpack(ARGV, 2)) end
return 1
