-- A circuit breaker is a hash. Closed: f, the times of recent failures in ms. Open: u, until when; after that it is half
-- open: one probe (p, and l until when it is waited for) may pass, and its end decides. A probe that is never heard of
-- again makes way for another.
local SHORTEST_PROBE, SHORTEST_WAIT = 5000, 1000 -- ms

-- Nil: `token` may pass. Otherwise when to ask again, in ms.
local function broken_until(name, token, cooldown, now)
  local key = string.sub(KEYS[1], 1, -6) .. 'breaker:' .. name
  local state = redis.call('HMGET', key, 'u', 'p', 'l')
  local ends, probe, waited_for = tonumber(state[1] or nil), state[2], tonumber(state[3] or nil)
  if not ends then return nil end
  if now < ends then return ends end
  if probe and probe ~= token and now < waited_for then
    return math.min(waited_for, now + math.max(SHORTEST_WAIT, cooldown)) -- it may end soon
  end
  redis.call('HSET', key, 'p', token, 'l', number(now + math.max(SHORTEST_PROBE, cooldown)))
  return nil
end
