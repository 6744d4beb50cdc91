-- late: starts of rate-limited tasks came later after their moments than they may. The plan moves by the rest of the
-- delay, as if time had stood still, so that those that are yet to be handed over keep their distance from them. Said
-- twice, or of several starts that were late together, it moves by the longest delay once.
-- KEYS  index
-- ARGV  for each start and rate limit: limit, slot, when it started, how late that may be, by how much the plan moves at
--       most; us
-- Returns how many plans moved.
-- @include clock
redis.call('PERSIST', KEYS[1])
local prefix, moved = string.sub(KEYS[1], 1, -6) .. 'rate:', 0
for at = 1, #ARGV, 5 do
  local key = prefix .. ARGV[at]
  local shift = tonumber(redis.call('HGET', key, 's') or nil)
  local late = shift and tonumber(ARGV[at + 2]) - shift - tonumber(ARGV[at + 1]) - tonumber(ARGV[at + 3])
  if late and late > 0 then
    redis.call('HSET', key, 's', number(shift + math.min(late, tonumber(ARGV[at + 4]))))
    moved = moved + 1
  end
end
return moved
