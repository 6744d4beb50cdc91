-- A worker that slept until a task is due may have been the only one that knew of it: who fell asleep before that task
-- was sent does not. Now that it has something to do another one watches, where a task is due before all wake up anyway.
local LONGEST_SLEEP = 5000

local function pass_on_watch()
  local soon = redis.call('ZRANGEBYSCORE', due_key, '-inf', now + LONGEST_SLEEP)
  if #soon == 0 then return end
  local watched = {}
  for _, name in ipairs(soon) do watched[name] = true end
  for position = 1, queues do
    local _, _, _, sleepers, wake = keys_of(position)
    if watched[ARGV[FIRST_QUEUE + position]] then wake_sleepers(sleepers, wake, 1, now) end
  end
end
