-- The index says where each task is, in as few bytes as will do: there is an entry for every task that waits. Its fields
-- are ids without their first two bytes (a UUIDv7's slowest); the lane default:0 goes without saying.
-- A location is '<entry> <queue>:<priority>' in a lane, 's<queue>' in a schedule, 'o<entry>' in the outcomes.
local PLAIN = ' default:0'

local function index_field(id)
  return string.sub(id, 3)
end

local function whole(place)
  if place and string.find(place, '^%d+%-%d+$') then return place .. PLAIN end
  return place
end

local function location_of(index, id)
  return whole(redis.call('HGET', index, index_field(id)))
end

local function set_location(index, id, location)
  if string.sub(location, -#PLAIN) == PLAIN then location = string.sub(location, 1, -#PLAIN - 1) end
  redis.call('HSET', index, index_field(id), location)
end

local function is_known(index, id)
  return redis.call('HEXISTS', index, index_field(id)) == 1
end
