-- The frame of a settling call whose deliveries have `size` arguments each, entry and id first: checks them one by one,
-- has what is this worker's settled by `settle(id, at)`, and takes the entries out of the lane. `doubt(entry, id, at)`,
-- if given, may return a code that speaks against it. Returns position, code of what was not settled.
local FEW = 8

-- What most of a large call needs to know, in two commands: a worker settles what it has held for longest. Gives the
-- entries that are surely this worker's, and locations by id.
local function look_ahead(worker, size)
  local count, fields, ids = (#ARGV - FIRST) / size, {}, {}
  if count < FEW then return {}, {} end
  local mine, known = {}, {}
  local pending = redis.pcall('XPENDING', K.lane, 'workers', '-', '+', 2 * count, worker)
  for _, item in ipairs(pending.err and {} or pending) do mine[item[1]] = true end
  for at = FIRST + 1, #ARGV, size do
    ids[#ids + 1] = ARGV[at + 1]
    fields[#fields + 1] = index_field(ARGV[at + 1])
  end
  for position, place in ipairs(redis.call('HMGET', K.index, unpack(fields))) do known[ids[position]] = whole(place) end
  return mine, known
end

local function settle_each(size, settle, doubt)
  local worker, entries, seen, refused = ARGV[FIRST], {}, {}, {}
  local mine, known = look_ahead(worker, size)
  for at = FIRST + 1, #ARGV, size do
    local entry, id = ARGV[at], ARGV[at + 1]
    local code = LOST
    if mine[entry] and not seen[entry] and not is_over[id] and known[id] == entry .. ' ' .. suffix then
      code = HELD
    elseif not seen[entry] then
      code = standing(worker, entry, id)
    end
    if code ~= LOST then code = doubt and doubt(entry, id, at) or code end
    if code == HELD or code == DUPLICATE then
      seen[entry] = true
      entries[#entries + 1] = entry
    end
    if code == HELD then
      settle(id, at)
    else
      refused[#refused + 1] = (at - FIRST - 1) / size
      refused[#refused + 1] = code
    end
  end
  leave_lane(entries)
  return refused
end
