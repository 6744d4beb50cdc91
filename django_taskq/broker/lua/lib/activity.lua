-- What ends in each minute, and how fast: packed counters for everything together and for each task of each queue. What
-- is tallied is text that core/activity.py made.
local MOST_TASKS = 500
local tally, tallied = {}, false

local function tally_activity(activity)
  tally[activity] = (tally[activity] or 0) + 1
  tallied = true
end

local function add(counters, name, count)
  counters[name] = (counters[name] or 0) + count
end

local function write_activity()
  if not tallied then return end
  local key, changed, first = minute_key(now_ms()), {}, false
  local function counters_of(field)
    if not changed[field] then
      local packed = redis.call('HGET', key, field)
      if not packed and field ~= 'all' and redis.call('HLEN', key) >= MOST_TASKS then
        field = 't:' .. queue .. ':'
        packed = redis.call('HGET', key, field)
      end
      local readable, counters = pcall(cmsgpack.unpack, packed or '')
      changed[field] = changed[field] or readable and type(counters) == 'table' and counters or {}
      first = first or not packed and field == 'all'
    end
    return changed[field]
  end
  for activity, count in pairs(tally) do
    local state, waited, ran, task = string.match(activity, '^(%a) (%d*) (%d*) (.*)$')
    for _, field in ipairs({'all', 't:' .. queue .. ':' .. task}) do
      local counters = counters_of(field)
      add(counters, state, count)
      if waited ~= '' then add(counters, 'w' .. waited, count) end
      if ran ~= '' then add(counters, 'r' .. ran, count) end
    end
  end
  for field, counters in pairs(changed) do redis.call('HSET', key, field, cmsgpack.pack(counters)) end
  if first then redis.call('EXPIRE', key, KEPT_SECONDS) end -- now that it is there
end
