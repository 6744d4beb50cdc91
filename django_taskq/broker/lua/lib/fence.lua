-- Whether the lease in the last of KEYS is still that of the owner and token at the end of ARGV, which are taken off: what
-- follows reads ARGV to its end. Each look at the outbox has a token of its own, so a call that was held up on its way
-- and arrives after a later look sends nothing.
local function lease_holds()
  local token, owner = table.remove(ARGV), table.remove(ARGV)
  local held = redis.call('HMGET', KEYS[#KEYS], 'owner', 'token', 'until')
  local time = redis.call('TIME')
  return held[1] == owner and held[2] == token and tonumber(held[3]) > time[1] * 1000 + math.floor(time[2] / 1000)
end
