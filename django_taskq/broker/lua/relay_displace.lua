-- relay_displace: relay for a queue whose oldest tasks make room; what displace does, while this relay holds the lease.
-- KEYS  lib/lane_keys.lua, the lease
-- ARGV  as displace, then owner and token of the lease
-- Returns nil when the lease is not this relay's any more, and has sent nothing; otherwise what displace returns.
-- @include fence
if not lease_holds() then return false end
-- @script displace
