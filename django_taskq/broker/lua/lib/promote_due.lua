-- Promotes what is due in the queues of this claim, those that are paused aside, and wakes a sleeper for each of it.
-- @include unpacked
-- @include promote
local MOST_PROMOTED = 500

local function promote_due()
  local due, promoted = {}, 0
  for _, queue in ipairs(redis.call('ZRANGEBYSCORE', due_key, '-inf', now)) do due[queue] = true end
  if not next(due) then return end
  for position = 1, queues do
    local queue = ARGV[FIRST_QUEUE + position]
    if due[queue] and not paused[queue] and promoted < MOST_PROMOTED then
      local lanes, scheduled, messages, sleepers, wake = keys_of(position)
      local count = promote(queue, lanes, scheduled, messages, now, MOST_PROMOTED - promoted)
      wake_sleepers(sleepers, wake, count, now)
      promoted = promoted + count
    end
  end
end
