-- requeue: a dead letter's task starts a new run, unless it is on its way or that run has been already: pressed twice,
-- sent once.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, the new run, then one message (lib/admit.lua)
-- Returns 1 sent, 0 refused.
-- @include clock
-- @include wake
-- @include lanes
-- @include lane_keys
-- @include schedule
-- @include admit
local run, at = tonumber(ARGV[FIRST]), FIRST + 1
local id, key = ARGV[at], ARGV[at + 3]
local location = redis.call('HGET', K.index, id)
if location then
  if string.sub(location, 1, 1) ~= 'o' then return 0 end
  local entry = string.sub(location, 2)
  local found = redis.call('XRANGE', K.outcomes, entry, entry)[1]
  if found then
    -- cmsgpack does not know the binary type that the outcome begins with: its run follows at byte 21, after the head
    -- of the array (3) and the id (18).
    local known, _, ended = pcall(cmsgpack.unpack_one, found[2][4], 21)
    if known and (tonumber(ended) or 0) >= run then return 0 end
  end
end
local now = now_ms()
if key ~= '' then redis.call('SET', key, id, 'NX') end
admit(at, now)
if admitted > 0 then wake_sleepers(K.sleepers, K.wake, admitted, now) end
return 1
