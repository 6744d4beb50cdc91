-- The maximum length of a queue. What waits counts, ready, scheduled or parked; what a worker holds does not, so that a
-- short queue still keeps every worker busy. Of a queue with many shares a count is good for a moment, the longer the
-- more there are, and what is added or dropped meanwhile is added to it.
local MANY_LANES, LANES_A_MS, SHORTEST_MS = 256, 5, 100
local LENGTH = string.sub(K.index, 1, -6) .. 'length:' .. queue

local function held_in(lane)
  local pending, held = redis.pcall('XPENDING', lane, 'workers'), 0
  if pending.err or pending[1] == 0 then return 0 end
  for _, consumer in ipairs(pending[4]) do
    if consumer[1] ~= 'returned' then held = held + tonumber(consumer[2]) end
  end
  return held
end

-- Up to `enough` the streams' own lengths will do, which are cheaper and never too small.
local function count_waiting(enough)
  local lanes, length = redis.call('ZRANGE', K.lanes, 0, -1), redis.call('ZCARD', K.scheduled)
  length = length + redis.call('ZCARD', string.sub(K.index, 1, -6) .. 'parked:' .. queue)
  for _, lane in ipairs(lanes) do length = length + redis.call('XLEN', lane) end
  if length <= enough then return length end
  for _, lane in ipairs(lanes) do length = length - math.min(held_in(lane), redis.call('XLEN', lane)) end
  return length
end

local function length_of_queue(enough)
  local lanes = redis.call('ZCARD', K.lanes)
  if lanes <= MANY_LANES then return count_waiting(enough) end
  local known = redis.call('GET', LENGTH)
  if known then return tonumber(known) end
  local length = count_waiting(enough)
  redis.call('SET', LENGTH, length, 'PX', math.max(SHORTEST_MS, math.floor(lanes / LANES_A_MS)))
  return length
end

local function note_length(change)
  if change ~= 0 and redis.call('EXISTS', LENGTH) == 1 then redis.call('INCRBY', LENGTH, change) end
end

-- How many of the messages from ARGV[first] on are new to the broker.
local function count_new(first)
  local count, seen, at = 0, {}, first
  while at <= #ARGV do
    local id, key = ARGV[at], ARGV[at + 3]
    if not seen[id] and not is_known(K.index, id) then
      local owner = key ~= '' and owner_of(key)
      if not owner or owner == id then count = count + 1 end
    end
    seen[id] = true
    at = at + 5 + tonumber(ARGV[at + 4])
  end
  return count
end
