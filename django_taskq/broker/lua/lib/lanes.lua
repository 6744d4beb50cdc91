-- A lane is a stream that exists while it holds entries; its queue lists it, and `ready` lists the queue. One that
-- another producer began with a bare XADD exists before it is listed.
--
-- A lane is listed by its priority. Where shares take turns (lib/turns.lua) it is a fraction less, the more so the
-- later its last turn was; and a share of which nothing waits stands below IDLE, until something comes back or is
-- added.
local IDLE = -1000

local function priority_of(suffix)
  return string.match(suffix, '^[^:]+:(%-?%d+)')
end

local moment -- of this call, once it is asked for

-- Something waits in a lane, or is about to: it is in line. So is a share again that was idle.
local function open_lane(lane, lanes, suffix, ready, queue)
  local score = redis.call('ZSCORE', lanes, lane)
  if score and tonumber(score) >= IDLE then return end
-- @include shares
  if not score and redis.call('EXISTS', lane) == 0 then
    redis.call('XGROUP', 'CREATE', lane, 'workers', '0', 'MKSTREAM')
  end
  local priority = priority_of(suffix)
  redis.call('ZADD', lanes, is_share(lane) and last_turn(priority) or priority, lane)
  redis.call('SADD', ready, queue)
end
