-- trim: recorded outcomes leave Redis once they are older than the window, or older than the floor and not among the
-- newest. What is not recorded is never trimmed; an index entry goes only if it still names that outcome.
-- KEYS  index, outcomes, recorder
-- ARGV  owner, window in ms, floor in ms, how many newest may stay, most to trim
-- Returns how many were trimmed, about 1 MiB at most; call again until it is 0.
-- @include index
-- @include clock
redis.call('PERSIST', KEYS[1])
local held = redis.call('HMGET', KEYS[3], 'owner', 'cursor', 'lingering')
if held[1] ~= ARGV[1] or not held[2] then return 0 end
local now, window, floor = now_ms(), tonumber(ARGV[2]), tonumber(ARGV[3])
local excess = tonumber(held[3] or 0) - tonumber(ARGV[4])
local ids, names, last, kept = {}, {}, nil, false
local most, bytes, step = tonumber(ARGV[5]), 1048576, 8

-- A few at a time, as many as should fit by the size of those before: outcomes carry results.
while not kept and #ids < most and bytes > 0 do
  local count, before = math.min(step, most - #ids), bytes
  local recorded = redis.call('XRANGE', KEYS[2], last and '(' .. last or '-', held[2], 'COUNT', count)
  for _, outcome in ipairs(recorded) do
    local age = now - tonumber(string.match(outcome[1], '^%d+'))
    kept = age < window and (age < floor or #ids >= excess)
    if age < 0 then kept = #ids >= excess end -- the clock has stepped back: nobody knows its age
    if kept then break end
    last = outcome[1]
    ids[#ids + 1] = index_field(outcome[2][2])
    names[#names + 1] = 'o' .. last
    for _, value in ipairs(outcome[2]) do bytes = bytes - #value end
  end
  if #recorded < count then
    -- Somebody may have deleted the stream.
    if #recorded == 0 and not last and (held[3] or '0') ~= '0' then redis.call('HSET', KEYS[3], 'lingering', 0) end
    break
  end
  step = math.max(1, math.min(32, math.floor(bytes * count / (before - bytes))))
end
if not last then return 0 end
local stale = {}
for position, location in ipairs(redis.call('HMGET', KEYS[1], unpack(ids))) do
  if location == names[position] then stale[#stale + 1] = ids[position] end
end
if #stale > 0 then redis.call('HDEL', KEYS[1], unpack(stale)) end
local ms, sequence = string.match(last, '^(%d+)%-(%d+)$')
redis.call('XTRIM', KEYS[2], 'MINID', ms .. '-' .. number(tonumber(sequence) + 1))
redis.call('HINCRBY', KEYS[3], 'lingering', -#ids)
return #ids
