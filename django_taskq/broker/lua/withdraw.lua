-- withdraw: a task that is in the outbox only ends there: the index knows its id from now on, so no relay sends it.
-- KEYS  lib/lane_keys.lua
-- ARGV  lib/lane_keys.lua, id, state, outcome, activity (core/activity.py)
-- Returns 1, or 0 when the id is known here: it has been sent, or has ended.
-- @include index
-- @include clock
-- @include lane_keys
-- @include held
-- @include finish
-- @include minute
-- @include activity
redis.call('PERSIST', K.index)
local id, state = ARGV[FIRST], ARGV[FIRST + 1]
if is_known(K.index, id) then return 0 end
finish(id, state, ARGV[FIRST + 2], '', '0')
tally_activity(ARGV[FIRST + 3])
write_ends()
write_activity()
return 1
