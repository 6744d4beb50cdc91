-- A task waits for its time outside the streams, where it would pin memory. `fields` is the whole message.
-- Wakes a sleeper when the task is due before the rest of its queue: that worker sleeps until then.
local function schedule(id, at, fields, now)
  redis.call('ZADD', K.scheduled, number(at), id)
  redis.call('HSET', K.messages, id, cmsgpack.pack({suffix, unpack(fields)}))
  set_location(K.index, id, 's' .. queue)
  local first = redis.call('ZSCORE', K.due, queue)
  if not first or at < tonumber(first) then
    redis.call('ZADD', K.due, number(at), queue)
    wake_sleepers(K.sleepers, K.wake, 1, now)
  end
end
