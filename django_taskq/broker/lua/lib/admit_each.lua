-- A task on its way holds its key without a TTL. Such a key of a task that is not on its way was left behind, when
-- somebody deleted its message: it is free.
local function owner_of(key)
  local owner = redis.call('GET', key)
  if owner and redis.call('PTTL', key) == -1 then
    local location = location_of(K.index, owner)
    if not location or string.sub(location, 1, 1) == 'o' then return false end
  end
  return owner
end

-- Admits the messages from ARGV[first] on (lib/admit.lua), each at most once. Returns a flat list of position, id for
-- each message whose idempotency key belongs to another task.
local function admit_each(first)
  local now, taken = now_ms(), {}
  local at, position = first, 0
  while at <= #ARGV do
    local id, key = ARGV[at], ARGV[at + 3]
    if not is_known(K.index, id) then
      local owner = key ~= '' and owner_of(key)
      if owner and owner ~= id then
        taken[#taken + 1] = position
        taken[#taken + 1] = owner
      else
        if key ~= '' then redis.call('SET', key, id) end
        admit(at, now)
      end
    end
    at, position = at + 5 + tonumber(ARGV[at + 4]), position + 1
  end
  if admitted > 0 then wake_sleepers(K.sleepers, K.wake, admitted, now) end
  count_accepted(now)
  return taken
end
