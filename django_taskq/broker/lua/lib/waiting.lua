-- What waits in a lane: entries that came back from a worker, then those that no worker has had.
local function last_delivered(lane)
  local groups = redis.pcall('XINFO', 'GROUPS', lane)
  if groups.err or not groups[1] then return nil end
  for position = 1, #groups[1], 2 do
    if groups[1][position] == 'last-delivered-id' then return groups[1][position + 1] end
  end
  return '0-0'
end

local function first_waiting(lane)
  local last = last_delivered(lane)
  if not last then return '' end
  local returned = redis.call('XPENDING', lane, 'workers', '-', '+', 1, 'returned')[1]
  if returned then return returned[1] end
  local fresh = redis.call('XRANGE', lane, '(' .. last, '+', 'COUNT', 1)[1]
  return fresh and fresh[1] or ''
end
