-- enqueue: new messages of one lane, each at most once however often the producer sends it; all of them or none where
-- the queue has a maximum length.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, the queue's maximum length or '', then the messages (lib/admit.lua)
-- Returns a flat list of position, id for each message whose idempotency key belongs to another task; the others were
--         accepted now or are known already. Or {-1, tasks that wait, messages that are new}: those do not fit;
--         or {-2, position, ms}: that message's rate limit refuses it for so long.
-- @include index
-- @include clock
-- @include wake
-- @include lanes
-- @include lane_keys
-- @include schedule
-- @include minute
-- @include admit
-- @include admit_each

-- What only some calls need is made for those alone.
local take
if string.find(ARGV[2], ':g', 1, true) then
-- @include gcra
-- @include refusal
  local refusal = refused(FIRST + 1)
  if refusal then return refusal end
  take = take_rates
end
local most = tonumber(ARGV[FIRST])
if most then
-- @include room
  local new = count_new(FIRST + 1)
  local length = length_of_queue(most - new)
  if new > 0 and length + new > most then return {-1, length, new} end
  note_length(new)
end
if take then take() end
return admit_each(FIRST + 1)
