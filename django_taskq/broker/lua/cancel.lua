-- cancel: settles what no worker holds; for the rest it leaves a request and tells the worker, if asked to.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, prefix of inboxes or '' (leave alone what a worker holds), then for each: id, location as
--       the caller saw it, outcome, idempotency key or '', activity (core/activity.py)
-- Returns for each: 1 cancelled, 2 requested, 3 held and left alone, 0 it has moved since (look again).
-- @include index
-- @include clock
-- @include lanes
-- @include places
-- @include lane_keys
-- @include held
-- @include leave
-- @include finish
-- @include minute
-- @include activity
redis.call('PERSIST', K.index)
local inbox_prefix, entries, codes = ARGV[FIRST], {}, {}
for at = FIRST + 1, #ARGV, 5 do
  local id, location = ARGV[at], ARGV[at + 1]
  local code = 0
  if not is_over[id] and location_of(K.index, id) == location then
    local entry = string.match(location, '^(%d+%-%d+) ')
    local owner = entry and holder(K.lane, entry)
    if owner and owner ~= 'returned' then
      code = 3
      if inbox_prefix ~= '' then
        redis.call('HSET', K.cancels, id, '')
        redis.call('RPUSH', inbox_prefix .. owner, 'cancel ' .. location)
        code = 2
      end
    else
      if entry then
        entries[#entries + 1] = entry
      elseif string.sub(location, 1, 1) == 'p' then
        place_keeper().leave_parking(id, queue)
      else
        redis.call('ZREM', K.scheduled, id)
        redis.call('HDEL', K.messages, id)
      end
      finish(id, 'cancelled', ARGV[at + 2], ARGV[at + 3], '0')
      tally_activity(ARGV[at + 4])
      code = 1
    end
  end
  codes[#codes + 1] = code
end
leave_lane(entries)
write_ends()
give_back_places(ended)
write_activity()
return codes
