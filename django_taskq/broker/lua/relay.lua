-- relay: messages of one lane out of a database's outbox; what enqueue does, while this relay holds the lease.
-- KEYS  lib/lane_keys.lua, the lease
-- ARGV  as enqueue, then owner and token of the lease
-- Returns nil when the lease is not this relay's any more, and has sent nothing; otherwise what enqueue returns.
-- @include fence
if not lease_holds() then return false end
-- @script enqueue
