-- requeue: a dead letter's task starts a new run, unless it is on its way or that run has been already: pressed twice,
-- sent once.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, the new run, then one message (lib/admit.lua)
-- Returns 1 sent, 0 refused.
-- @include index
-- @include clock
-- @include wake
-- @include lanes
-- @include lane_keys
-- @include schedule
-- @include minute
-- @include admit
-- The index may name a lane or a schedule that somebody deleted: such a task is on no way.
local function on_its_way(id, location)
  if string.sub(location, 1, 1) == 's' then
    return redis.call('ZSCORE', string.sub(K.scheduled, 1, -1 - #queue) .. string.sub(location, 2), id)
  end
  if string.sub(location, 1, 1) == 'p' then
    return redis.call('HEXISTS', string.sub(K.index, 1, -6) .. 'parked:' .. string.sub(location, 2) .. ':messages', id) == 1
  end
  local entry, place = string.match(location, '^(%d+%-%d+) (.+)$')
  return redis.pcall('XRANGE', string.sub(K.lane, 1, -1 - #suffix) .. place, entry, entry)[1]
end

-- cmsgpack does not know the binary type that an outcome begins with: its run follows at byte 21, after the head of the
-- array (3) and the id (18).
local function run_of(entry)
  local found = redis.call('XRANGE', K.outcomes, entry, entry)[1]
  local known, _, run = pcall(cmsgpack.unpack_one, found and found[2][4] or '', 21)
  return known and tonumber(run) or 0
end

local run, at = tonumber(ARGV[FIRST]), FIRST + 1
local id, key = ARGV[at], ARGV[at + 3]
local location = location_of(K.index, id)
if location then
  if string.sub(location, 1, 1) == 'o' then
    if run_of(string.sub(location, 2)) >= run then return 0 end
  elseif on_its_way(id, location) then
    return 0
  end
end
local now = now_ms()
if key ~= '' then redis.call('SET', key, id, 'NX') end
admit(at, now)
if admitted > 0 then wake_sleepers(K.sleepers, K.wake, admitted, now) end
count_accepted(now)
return 1
