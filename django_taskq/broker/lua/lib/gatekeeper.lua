-- What decides message by message, made where a claim meets a lane that needs it: others do not pay for it.
local gatekept

local function gatekeeper()
  if gatekept then return gatekept end
-- @include fields
-- @include unpacked
-- @include parking
-- @include declared
-- @include limits
-- @include schedule
-- @include gcra
-- @include rate
-- @include breaker
-- @include gates
  gatekept = {examine = examine, unparked = function() return unparked end}
  return gatekept
end
