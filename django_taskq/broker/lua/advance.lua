-- advance: the outcomes up to a cursor are in the database. Compare-and-set by the holder of the lease.
-- KEYS  index, recorder
-- ARGV  owner, cursor as the caller knows it, new cursor, number of outcomes between them
-- Returns 1, or 0 when the lease or the cursor is another's.
redis.call('PERSIST', KEYS[1])
local held = redis.call('HMGET', KEYS[2], 'owner', 'cursor')
if held[1] ~= ARGV[1] or (held[2] or '0-0') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'cursor', ARGV[3])
redis.call('HINCRBY', KEYS[2], 'lingering', ARGV[4])
return 1
