-- What is limited or parked, for scripts that mostly have nothing to do with it: its functions are made at their first
-- use, so that other calls do not pay for them.
local made

local function place_keeper()
  if made then return made end
-- @include wake
-- @include unpacked
-- @include fields
-- @include parking
-- @include declared
-- @include limits
  made = {give_back = give_back, leave_parking = leave_parking}
  return made
end

-- Tasks whose deliveries are over give back what they held. While nothing is held anywhere that is one look.
local function give_back_places(ids)
  if #ids > 0 and redis.call('EXISTS', string.sub(KEYS[1], 1, -6) .. 'holds') == 1 then place_keeper().give_back(ids) end
end
