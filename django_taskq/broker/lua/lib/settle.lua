-- The frame of a settling call whose deliveries have `size` arguments each, entry and id first: checks them one by one,
-- has what is this worker's settled by `settle(id, at)`, and takes the entries out of the lane. `doubt(entry, id, at)`,
-- if given, may return a code that speaks against it. Returns position, code of what was not settled.
local function settle_each(size, settle, doubt)
  local worker, entries, seen, refused = ARGV[FIRST], {}, {}, {}
  for at = FIRST + 1, #ARGV, size do
    local entry, id = ARGV[at], ARGV[at + 1]
    local code = seen[entry] and LOST or standing(worker, entry, id)
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
