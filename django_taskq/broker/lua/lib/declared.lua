-- What the worker that started last declares of limits (declare.lua) holds, whatever a message says, which carries the
-- numbers of the moment it was sent, or a claim of an older worker.
local known_declarations = {}

-- The numbers of a limit's kind, 'c' places or 'r' rate; nil when nobody has declared any. The first is 0: no limit.
local function declared(kind, limit)
  local field = kind .. ':' .. (string.match(limit, '^task:[^:]+') or limit)
  if known_declarations[field] == nil then
    local numbers = {}
    for text in string.gmatch(redis.call('HGET', NS .. 'declared', field) or '', '%d+') do
      numbers[#numbers + 1] = tonumber(text)
    end
    known_declarations[field] = #numbers > 1 and {unpack(numbers, 2)} or false
  end
  return known_declarations[field] or nil
end

local function places_of(limit, otherwise)
  local numbers = declared('c', limit)
  if not numbers then return otherwise end
  return numbers[1] == 0 and math.huge or numbers[1]
end
