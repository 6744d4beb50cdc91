-- GCRA, the generic cell rate algorithm in its form of virtual scheduling (ITU-T Recommendation I.371, annex A): what
-- conforms keeps a distance of `interval` to what came before, and may run up to `lead` ahead of that. Microseconds.
local function gcra(next_slot, now, interval, lead)
  local slot = math.max(now, next_slot - lead)
  return slot, math.max(now, next_slot) + interval
end
