-- A lane is a stream that exists while it holds entries; its queue lists it, and `ready` lists the queue. One that
-- another producer began with a bare XADD exists before it is listed.
--
-- A lane is listed by its priority. Where shares take turns (lib/turns.lua) it is a fraction less, the more so the
-- later its last turn was; and a share of which nothing waits stands below IDLE, until something comes back or is
-- added.
local IDLE = -1000

local function is_suffix(text)
  return string.find(text, '^[^:]+:%-?%d+$') or string.find(text, '^[^:]+:%-?%d+:%a%w*$')
end

local function priority_of(suffix)
  return string.match(suffix, '^[^:]+:(%-?%d+)')
end

local function is_share(lane)
  return string.find(lane, ':[fg]%w+$')
end

-- The last place in line, the same for all that a call puts there (before Redis 7.2 the time goes on within a script).
-- Microseconds, as far as a double can tell them apart: 16 of them at a priority of 20, 64 at 100. The fraction stays
-- below 1 until the year 2112.
local moment
local function last_turn(base)
  if not moment then
    local time = redis.call('TIME')
    moment = (time[1] * 1000000 + time[2]) / 4503599627370496
  end
  return string.format('%.17g', base - moment)
end

-- Something waits in a lane that is listed: a share that was idle is in line again.
local function rouse_lane(lane, lanes, score)
  if tonumber(score) >= IDLE then return end
  redis.call('ZADD', lanes, last_turn(priority_of(string.match(lane, ':queue:(.+)$'))), lane)
end

local function open_lane(lane, lanes, priority, ready, queue)
  local score = redis.call('ZSCORE', lanes, lane)
  if score then return rouse_lane(lane, lanes, score) end
  if redis.call('EXISTS', lane) == 0 then redis.call('XGROUP', 'CREATE', lane, 'workers', '0', 'MKSTREAM') end
  redis.call('ZADD', lanes, is_share(lane) and last_turn(priority) or priority, lane)
  redis.call('SADD', ready, queue)
end

local function close_empty_lane(lane, lanes, ready, queue)
  if redis.call('XLEN', lane) > 0 then return false end
  redis.call('DEL', lane)
  redis.call('ZREM', lanes, lane)
  if redis.call('EXISTS', lanes) == 0 then redis.call('SREM', ready, queue) end
  return true
end
