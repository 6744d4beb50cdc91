-- pending: what Redis thinks one worker holds, to compare with what it does hold.
-- KEYS  lanes of each of its queues
-- ARGV  worker, most entries a lane
-- Returns for each lane: {lane, entry, deliveries, entry, deliveries ...}
local replies = {}
for _, lanes in ipairs(KEYS) do
  for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, -1)) do
    local pending = redis.pcall('XPENDING', lane, 'workers', '-', '+', ARGV[2], ARGV[1])
    if not pending.err and #pending > 0 then
      local reply = {lane}
      for _, item in ipairs(pending) do
        reply[#reply + 1] = item[1]
        reply[#reply + 1] = item[4]
      end
      replies[#replies + 1] = reply
    end
  end
end
return replies
