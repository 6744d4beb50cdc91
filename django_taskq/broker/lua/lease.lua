-- lease: one recorder at a time; takes or renews the lease.
-- KEYS  index, recorder
-- ARGV  owner, ttl in ms
-- Returns the cursor, or nil when another recorder holds the lease.
-- @include clock
redis.call('PERSIST', KEYS[1])
local now = now_ms()
local held = redis.call('HMGET', KEYS[2], 'owner', 'until', 'cursor')
local LONGEST = 60000 -- a lease that ends later was taken before the clock stepped back
local ends = tonumber(held[2] or 0)
if held[1] and held[1] ~= ARGV[1] and ends > now and ends <= now + LONGEST then return false end
redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'until', number(now + tonumber(ARGV[2])))
return held[3] or '0-0'
