-- The fence. Who holds an entry, and how often it was delivered; nil when the entry, its group or its stream is gone.
local function holder(lane, entry)
  local reply = redis.pcall('XPENDING', lane, 'workers', entry, entry, 1)
  if reply.err or not reply[1] then return nil end
  return reply[1][2], reply[1][4]
end

local LOST, HELD, DUPLICATE = 0, 1, 3
local is_over = {} -- ids that this call has ended already

local function carries(entry, id)
  local found = redis.call('XRANGE', K.lane, entry, entry)[1]
  local fields = found and found[2] or {}
  for position = 1, #fields, 2 do
    if fields[position] == 'i' and fields[position + 1] == id then return true end
  end
  return false
end

-- Whether this worker may settle a task by this delivery. An index that names another place means that the delivery is
-- over even if the entry's id came back, or that a foreign producer sent a known id again: that entry is a DUPLICATE.
local function standing(worker, entry, id)
  if holder(K.lane, entry) ~= worker then return LOST end
  local location = is_over[id] and 'o' or location_of(K.index, id)
  if not location or location == entry .. ' ' .. suffix then return HELD end
  return carries(entry, id) and DUPLICATE or LOST
end
