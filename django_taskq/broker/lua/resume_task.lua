-- resume_task: messages of a paused task go back to their lanes, the longest parked first.
-- KEYS  index, paused
-- ARGV  task, most messages
-- Returns {1 when it was paused, how many went back}; call again while that is as many as asked for.
-- @include index
-- @include clock
-- @include wake
-- @include lanes
-- @include unpacked
-- @include fields
-- @include parking
redis.call('PERSIST', KEYS[1])
local was = redis.call('SREM', KEYS[2], 'task:' .. ARGV[1])
resume_waiting('paused:' .. ARGV[1], tonumber(ARGV[2]))
return {was, unparked}
