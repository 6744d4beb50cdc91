-- breaker: asks a circuit breaker whether a call may be made, or tells it how one ended.
-- KEYS  index, the breaker, breakers
-- ARGV  enter, success, failure, neither or close; name, token of the call, failures that open it, within ms, cooldown
--       in ms
-- Returns {1} go, or done; {0, ms to wait} it is open.
-- @include clock
-- @include breaker
local KEPT_MS = 604800000
redis.call('PERSIST', KEYS[1])
local verb, name, token = ARGV[1], ARGV[2], ARGV[3]
local most, within, cooldown, now = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), now_ms()

local function open_it()
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'u', number(now + cooldown))
end

if verb == 'enter' then
  local again = broken_until(name, token, cooldown, now)
  return again and {0, math.max(1, math.ceil(again - now))} or {1}
end
local state = redis.call('HMGET', KEYS[2], 'u', 'p', 'f')
local is_open, is_probe = state[1], state[2] == token
if verb == 'close' or verb == 'success' and is_probe then
  redis.call('DEL', KEYS[2])
elseif verb == 'neither' and is_probe then
  redis.call('HDEL', KEYS[2], 'p', 'l')
elseif verb == 'failure' and is_probe then
  open_it()
elseif verb == 'failure' and not is_open then
  local recent = {}
  for at in string.gmatch(state[3] or '', '%d+') do
    if tonumber(at) > now - within and #recent < most - 1 then recent[#recent + 1] = at end
  end
  table.insert(recent, 1, number(now)) -- the newest first: those that count are kept
  redis.call('SADD', KEYS[3], name)
  if #recent >= most then open_it() else redis.call('HSET', KEYS[2], 'f', table.concat(recent, ' ')) end
end
redis.call('PEXPIRE', KEYS[2], KEPT_MS)
return {1}
