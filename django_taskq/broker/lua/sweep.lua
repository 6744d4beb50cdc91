-- sweep: heals limits whose keys somebody changed: places of tasks that are nowhere are freed, who is parked is on the
-- waiting list, and whom a limit has room for goes on.
-- KEYS  index
-- ARGV  queue and position from which 500 of its parked tasks are looked at, then limits
-- Returns {places freed, messages that went on, parked tasks looked at}
-- @include index
-- @include clock
-- @include wake
-- @include lanes
-- @include unpacked
-- @include fields
-- @include parking
-- @include declared
-- @include limits
local MOST = 500

local function is_there(id, noted)
  local location = location_of(KEYS[1], id) or noted
  local kind, queue = string.match(location, '^([sp])(.+)$')
  if kind == 's' then return redis.call('ZSCORE', NS .. 'scheduled:' .. queue, id) end
  if kind == 'p' then return parked_message(id) end
  local entry, suffix = string.match(location, '^(%d+%-%d+) (.+)$')
  return entry and redis.call('XRANGE', NS .. 'queue:' .. suffix, entry, entry)[1]
end

redis.call('PERSIST', KEYS[1])
local parked = redis.call('ZRANGE', NS .. 'parked:' .. ARGV[1], ARGV[2], ARGV[2] + MOST - 1)
for _, id in ipairs(parked) do
  local since, _, limit = parking_of(unpacked(parked_message(id)) or {}, 2)
  if limit and redis.call('ZADD', NS .. 'waiting:' .. limit, 'NX', since, id) == 1 then
    redis.call('SADD', LIMITS, limit)
  end
end

local freed = 0
for position = 3, #ARGV do
  local limit = ARGV[position]
  local holders = redis.call('HGETALL', NS .. 'limit:' .. limit)
  for at = 1, #holders, 2 do
    if not is_there(holders[at], holders[at + 1]) then
      give_back({holders[at]})
      redis.call('HDEL', NS .. 'limit:' .. limit, holders[at])
      freed = freed + 1
    end
  end
  local task = string.match(limit, '^paused:(.+)$')
  if task and redis.call('SISMEMBER', NS .. 'paused', 'task:' .. task) == 0 then
    resume_waiting(limit, MOST)
  else
    fill(limit)
  end
end
return {freed, unparked, #parked}
