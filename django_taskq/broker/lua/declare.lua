-- declare: what a worker's settings and code say of limits. Of several workers the one that started last is right.
-- KEYS  index, declared
-- ARGV  ms since the worker's start, then for each: kind and limit (lib/declared.lua), numbers
-- Returns how many have other numbers than before. A rate among these is noted as pending, 'p' before its field, until
-- what is planned by it has been planned anew (replan.lua).
-- @include clock
redis.call('PERSIST', KEYS[1])
local since, changed = now_ms() - tonumber(ARGV[1]), 0
for at = 2, #ARGV, 2 do
  local field, numbers = ARGV[at], ARGV[at + 1]
  local before, those = string.match(redis.call('HGET', KEYS[2], field) or '', '^(%d+) (.+)$')
  if not before or since >= tonumber(before) then
    redis.call('HSET', KEYS[2], field, number(since) .. ' ' .. numbers)
    if those and those ~= numbers then
      changed = changed + 1
      if string.sub(field, 1, 2) == 'r:' then redis.call('HSET', KEYS[2], 'p' .. field, number(since)) end
    end
  end
end
return changed
