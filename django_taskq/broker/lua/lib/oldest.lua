-- The tasks that have waited longest, in the form of find.lua's replies: of the lowest priority first, then what is
-- parked, then what is scheduled, soonest first. About 1 MiB, and no more than MOST_LANES lanes are looked at.
local MOST_LANES, STEP = 32, 8
local oldest, room_left = {}, 1048576

local function offer(location, extra, fields, size)
  oldest[#oldest + 1] = {location, extra, fields}
  room_left = room_left - size
end

local function offer_entry(place, entry, most)
  if #oldest >= most or room_left <= 0 then return end
  local location, size, id = entry[1] .. ' ' .. place, 0, nil
  for position, part in ipairs(entry[2]) do
    size = size + #part
    if part == 'i' and position % 2 == 1 then id = entry[2][position + 1] end
  end
  -- What the index does not know by this place is not the producer's to end.
  if id and location_of(K.index, id) == location then offer(location, '', entry[2], size) end
end

local function offer_lane(lane, place, most)
  local last = last_delivered(lane)
  local pending = last and redis.call('XPENDING', lane, 'workers', '-', '+', most, 'returned') or {}
  for _, item in ipairs(pending) do
    local found = redis.call('XRANGE', lane, item[1], item[1])[1]
    if found then offer_entry(place, found, most) end
  end
  local from = last and '(' .. last or '-'
  while #oldest < most and room_left > 0 do
    local found = redis.call('XRANGE', lane, from, '+', 'COUNT', STEP)
    for _, entry in ipairs(found) do offer_entry(place, entry, most) end
    if #found < STEP then return end
    from = '(' .. found[STEP][1]
  end
end

-- Of several lanes of one priority the one whose first entry has waited longest comes first.
local function lanes_by_age()
  local ages = {}
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', K.lanes, IDLE, '+inf', 'LIMIT', 0, MOST_LANES)) do
    local ms, sequence = string.match(first_waiting(lane), '^(%d+)%-(%d+)$')
    local priority = priority_of(string.sub(lane, 1 + #K.lane - #suffix))
    ages[#ages + 1] = {lane, tonumber(priority) or 0, tonumber(ms or 0), tonumber(sequence or 0)}
  end
  table.sort(ages, function(one, other)
    for part = 2, 4 do
      if one[part] ~= other[part] then return one[part] < other[part] end
    end
    return one[1] < other[1]
  end)
  return ages
end

-- What waits outside the lanes: a zset of ids, and the hash of their messages.
local function offer_packed(location, ids, messages, most)
  if #oldest >= most or room_left <= 0 then return end
  for _, id in ipairs(redis.call('ZRANGE', ids, 0, most - #oldest - 1)) do
    local packed = redis.call('HGET', messages, id)
    local message = unpacked(packed)
    if room_left > 0 and message and location_of(K.index, id) == location then
      offer(location, redis.call('ZSCORE', ids, id), message, #packed)
    end
  end
end

local function find_oldest(most)
  local prefix, parked = #K.lane - #suffix, string.sub(K.index, 1, -6) .. 'parked:' .. queue
  for _, lane in ipairs(lanes_by_age()) do offer_lane(lane[1], string.sub(lane[1], prefix + 1), most) end
  offer_packed('p' .. queue, parked, parked .. ':messages', most)
  offer_packed('s' .. queue, K.scheduled, K.messages, most)
  return oldest
end
