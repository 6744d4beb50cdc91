-- Promotes what is due in the queues of this claim, up to 500 messages, and wakes a sleeper for each.
local MOST_PROMOTED = 500

local function promote_due(due)
  local is_due, promoted = {}, 0
  for _, queue in ipairs(due) do is_due[queue] = true end
  for position = 1, queues do
    local queue = ARGV[FIRST_QUEUE + position]
    if is_due[queue] and not paused[queue] and promoted < MOST_PROMOTED then
      local lanes, scheduled, messages, sleepers, wake = keys_of(position)
      local count = promote(queue, lanes, scheduled, messages, now, MOST_PROMOTED - promoted)
      wake_sleepers(sleepers, wake, count, now)
      promoted = promoted + count
    end
  end
end
