-- The hash of a minute, for statistics; kept for 48 hours and a little.
local KEPT_SECONDS = 176400

local function minute_key(now)
  return stats_prefix .. number(math.floor(now / 60000))
end
