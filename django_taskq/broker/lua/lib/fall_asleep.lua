-- A foreign producer's bare XADD may have made a lane that nobody lists: lists it. Returns whether it did.
local function list_foreign_lane(queue, lanes)
  local plain = prefix .. queue .. ':0'
  if redis.call('EXISTS', plain) == 0 or ready[queue] and redis.call('ZSCORE', lanes, plain) then return false end
  redis.call('ZADD', lanes, 0, plain)
  redis.call('SADD', ready_key, queue)
  return true
end

-- Registers a worker that got nothing as a sleeper of its queues, unless its lease is 0. Returns when the next of their
-- tasks is due, in ms: now where there is more to look at, -1 where none is.
local function fall_asleep()
  local next_due, more = -1, bytes <= 0 or looks <= 0 or unseen
  for position = 1, queues do
    local queue = ARGV[FIRST_QUEUE + position]
    local lanes, _, _, sleepers = keys_of(position)
    if lease > 0 then
      redis.call('ZADD', sleepers, now + lease, worker)
      redis.call('PEXPIRE', sleepers, lease)
    end
    local first = not paused[queue] and tonumber(redis.call('ZSCORE', due_key, queue) or nil)
    if first and (next_due < 0 or first < next_due) then next_due = first end
    more = list_foreign_lane(queue, lanes) or more
  end
  more = more or gatekept and gatekept.unparked() > 0
  return more and now or next_due
end
