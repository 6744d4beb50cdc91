-- Shares of a priority stand in line (lib/lanes.lua).
local function is_share(lane)
  return string.find(lane, ':[fg]%w+$')
end

-- The last place in line, the same for all that a call puts there (before Redis 7.2 the time goes on within a script).
-- Microseconds, as far as a double can tell them apart: 16 of them at a priority of 20, 64 at 100. The fraction stays
-- below 1 until the year 2112.
local function last_turn(base)
  if not moment then
    local time = redis.call('TIME')
    moment = (time[1] * 1000000 + time[2]) / 4503599627370496
  end
  return string.format('%.17g', base - moment)
end
