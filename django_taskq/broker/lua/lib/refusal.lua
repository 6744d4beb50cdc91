-- Producers of a task whose rate_limit_mode is 'refuse' are told at once. Checks first, for all messages of a call;
-- `take_rates` writes what they take.
local taken_rates, asked_at = {}, 0

local function rates_in(at)
  local found = {}
  for position = at + 5, at + 4 + tonumber(ARGV[at + 4]), 2 do
    if ARGV[position] == 'q' then
      local readable, gates = pcall(cmsgpack.unpack, ARGV[position + 1])
      for _, gate in ipairs(readable and type(gates) == 'table' and gates or {}) do
        if gate[1] == 'R' then found[#found + 1] = gate end
      end
    end
  end
  return found
end

-- Nil, or {-2, position of the first message that comes too early, ms until it would not}.
local function refused(first)
  local time = redis.call('TIME')
  local now, at, position = time[1] * 1000000 + time[2], first, 0
  while at <= #ARGV do
    local id, key = ARGV[at], ARGV[at + 3]
    local owner = key ~= '' and owner_of(key)
    if not is_known(K.index, id) and (not owner or owner == id) then
      for _, gate in ipairs(rates_in(at)) do
        local name = string.sub(K.index, 1, -6) .. 'rate:' .. gate[2]
        local known = taken_rates[name] or tonumber(redis.call('HGET', name, 'n') or nil) or 0
        local slot, following = gcra(known, now, gate[3], gate[4])
        if slot > now then return {-2, position, math.ceil((slot - now) / 1000)} end
        taken_rates[name], asked_at = following, now
      end
    end
    at, position = at + 5 + tonumber(ARGV[at + 4]), position + 1
  end
end

local function take_rates()
  for name, following in pairs(taken_rates) do
    redis.call('HSET', name, 'n', number(following))
    redis.call('PEXPIRE', name, number((following - asked_at) / 1000 + 60000))
  end
end
