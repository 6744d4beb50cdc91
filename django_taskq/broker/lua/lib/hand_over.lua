-- Gives entries of one lane to the worker, in `groups`, until the budget (`left`, `bytes`) is used up.
local groups = {}

local function collect(lane, losses, cancelled, entries)
  groups[#groups + 1] = {lane, losses, cancelled, entries}
  left = left - #entries
  for _, entry in ipairs(entries) do
    for _, value in ipairs(entry[2]) do bytes = bytes - #value end
  end
end

local function cancel_requested(fields)
  if redis.call('EXISTS', cancels) == 0 then return 0 end
  for position = 1, #fields, 2 do
    if fields[position] == 'i' then return redis.call('HEXISTS', cancels, fields[position + 1]) end
  end
  return 0
end

-- A delivery counter of n means n - 1 lost workers.
local function take_returned(lane)
  local pending = redis.pcall('XPENDING', lane, 'workers', '-', '+', left, 'returned')
  if pending.err then return end
  for _, item in ipairs(pending) do
    if left <= 0 or bytes <= 0 then return end
    local entry, deliveries = item[1], item[4]
    local claimed = redis.call('XCLAIM', lane, 'workers', worker, 0, entry, 'RETRYCOUNT', deliveries)
    if claimed[1] then
      collect(lane, deliveries - 1, cancel_requested(claimed[1][2]), claimed)
    else
      redis.call('XACK', lane, 'workers', entry) -- deleted while it was pending
    end
  end
end

-- Sizes are known only once entries are read: a few at a time, as many as should fit by the size of those before.
local function take_fresh(lane)
  local step, repaired = 8, false
  while left > 0 and bytes > 0 do
    local most, before = math.min(step, left), bytes
    local reply = redis.pcall('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', most, 'STREAMS', lane, '>')
    if reply and reply.err then
      -- The group is gone: from id 0 everything that waits is delivered again, and the fence sorts out the rest.
      if repaired or redis.call('EXISTS', lane) == 0 then return end
      redis.call('XGROUP', 'CREATE', lane, 'workers', '0')
      repaired = true
    elseif reply and reply[1] then
      collect(lane, 0, 0, reply[1][2])
      if #reply[1][2] < most then return end
      step = math.max(1, math.min(32, math.floor(bytes * most / (before - bytes))))
    else
      return
    end
  end
end

-- Somebody may have listed what is no lane, and shares of another kind are for a later version.
local function is_ours(suffix)
  return string.find(suffix, '^[^:]+:%-?%d+$') or string.find(suffix, '^[^:]+:%-?%d+:[fg]%w*$')
end

local function hand_over(lane, lanes, queue)
  local before = #groups
  take_returned(lane)
  take_fresh(lane)
  if #groups == before then close_empty_lane(lane, lanes, ready_key, queue) end
end
