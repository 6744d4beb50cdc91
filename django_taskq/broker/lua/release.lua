-- release: deliveries that this worker will not run go back, in place: the entry, its index and its losses stay.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, worker, then the entries
-- Returns how many were released.
-- @include index
-- @include clock
-- @include wake
-- @include lanes
-- @include lane_keys
-- @include held
redis.call('PERSIST', K.index)
local worker, released = ARGV[FIRST], 0
for at = FIRST + 1, #ARGV do
  local owner, deliveries = holder(K.lane, ARGV[at])
  if owner == worker then
    redis.call('XCLAIM', K.lane, 'workers', 'returned', 0, ARGV[at], 'JUSTID', 'RETRYCOUNT', deliveries)
    released = released + 1
  end
end
if released > 0 then
  open_lane(K.lane, K.lanes, suffix, K.ready, queue)
  wake_sleepers(K.sleepers, K.wake, released, now_ms())
end
return released
