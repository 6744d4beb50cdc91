-- Gives entries of one lane to the worker, in `groups`, until the budget (`left`, `bytes`) is used up. Where there are
-- `gates`, each is examined first, up to 500 in a call.
-- @include close_lane
local groups, looks = {}, 500

local function collect(lane, losses, verdict, entries)
  groups[#groups + 1] = {lane, losses, verdict, entries}
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

local function remove(lane, entries)
  if #entries == 0 then return end
  redis.call('XACK', lane, 'workers', unpack(entries))
  redis.call('XDEL', lane, unpack(entries))
end

-- In runs of one verdict; what has left the lane costs the budget its bytes.
local function collect_examined(lane, entries)
  local run, verdict, gone = {}, 0, {}
  for _, entry in ipairs(entries) do
    local found = gates.examine(entry[1], entry[2])
    if found ~= verdict and #run > 0 then
      collect(lane, 0, verdict, run)
      run = {}
    end
    if found then
      run[#run + 1], verdict = entry, found
    else
      gone[#gone + 1] = entry[1]
      for _, value in ipairs(entry[2]) do bytes = bytes - #value end
    end
  end
  if #run > 0 then collect(lane, 0, verdict, run) end
  remove(lane, gone)
  looks = looks - #entries
end

-- A delivery counter of n means n - 1 lost workers.
local function take_returned(lane)
  local pending = redis.pcall('XPENDING', lane, 'workers', '-', '+', left, 'returned')
  if pending.err then return end
  for _, item in ipairs(pending) do
    if left <= 0 or bytes <= 0 then return end
    local entry, losses = item[1], item[4] - 1
    local claimed = redis.call('XCLAIM', lane, 'workers', worker, 0, entry, 'RETRYCOUNT', losses + 1)
    if not claimed[1] then
      redis.call('XACK', lane, 'workers', entry) -- deleted while it was pending
    else
      local fields = claimed[1][2]
      local verdict = cancel_requested(fields)
      if gates and verdict == 0 then verdict = gates.examine(entry, fields, losses) end
      if verdict then collect(lane, losses, verdict, claimed) else remove(lane, {entry}) end
    end
  end
end

-- Sizes are known only once entries are read: a few at a time, as many as should fit by the size of those before.
local function take_fresh(lane)
  local step, repaired = 8, false
  while left > 0 and bytes > 0 and looks > 0 do
    local most, before = math.min(step, left), bytes
    if gates then most = math.min(most, looks) end
    local reply = redis.pcall('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', most, 'STREAMS', lane, '>')
    if reply and reply.err then
      -- The group is gone: from id 0 everything that waits is delivered again, and the fence sorts out the rest.
      if repaired or redis.call('EXISTS', lane) == 0 then return end
      redis.call('XGROUP', 'CREATE', lane, 'workers', '0')
      repaired = true
    elseif reply and reply[1] then
      if gates then collect_examined(lane, reply[1][2]) else collect(lane, 0, 0, reply[1][2]) end
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
