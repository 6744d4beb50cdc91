-- find: where tasks are, in one round trip.
-- KEYS  index, outcomes
-- ARGV  prefix of lanes, prefix of schedules, then ids
-- Returns for each: {} unknown, {location, '', outcome} ended,
--         {location, holder or '', fields, ms since the holder was given it} in a lane,
--         {location, due in ms, {lane's suffix, fields ...}} scheduled ({} where that cannot be read),
--         {location, '', {lane's suffix, fields ...}} parked.
-- @include index
-- @include lanes
-- @include unpacked
local function find(id)
  local location = location_of(KEYS[1], id)
  if not location then return {} end
  local kind = string.sub(location, 1, 1)
  if kind == 'o' then
    local entry = string.sub(location, 2)
    local found = redis.call('XRANGE', KEYS[2], entry, entry)[1]
    return found and {location, '', found[2][4]} or {}
  elseif kind == 's' then
    local scheduled = ARGV[2] .. string.sub(location, 2)
    local packed, due = redis.call('HGET', scheduled .. ':messages', id), redis.call('ZSCORE', scheduled, id)
    return due and {location, due, unpacked(packed) or {}} or {}
  elseif kind == 'p' then
    local packed = redis.call('HGET', string.sub(KEYS[1], 1, -6) .. 'parked:' .. string.sub(location, 2) .. ':messages', id)
    return packed and {location, '', unpacked(packed) or {}} or {}
  end
  local entry, suffix = string.match(location, '^(%d+%-%d+) (.+)$')
  local lane = ARGV[1] .. suffix
  local found = redis.pcall('XRANGE', lane, entry, entry)
  if found.err or not found[1] then return {} end
  local pending = redis.pcall('XPENDING', lane, 'workers', entry, entry, 1)
  local held = not pending.err and pending[1] or {}
  local owner = held[2] ~= 'returned' and held[2] or ''
  return {location, owner, found[1][2], held[3] or 0}
end

local replies = {}
for at = 3, #ARGV do replies[#replies + 1] = find(ARGV[at]) end
return replies
