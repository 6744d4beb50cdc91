-- relay_lease: one relay for each database at a time; takes or renews the lease.
-- KEYS  the lease
-- ARGV  owner, ttl in ms
-- Returns the token to send with (lib/fence.lua), or nil when another relay holds the lease.
-- @include clock
redis.call('PERSIST', KEYS[1])
local now = now_ms()
local held = redis.call('HMGET', KEYS[1], 'owner', 'until')
local LONGEST = 60000 -- a lease that ends later was taken before the clock stepped back
local ends = tonumber(held[2] or 0)
if held[1] and held[1] ~= ARGV[1] and ends > now and ends <= now + LONGEST then return false end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', number(now + tonumber(ARGV[2])))
return redis.call('HINCRBY', KEYS[1], 'token', 1)
