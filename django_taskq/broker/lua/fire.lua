-- fire: one tick of a periodic task, once (lib/tick.lua): its message is sent as enqueue does.
-- KEYS  as enqueue, then the notes of periodic tasks
-- ARGV  as enqueue, with one message, or none for ticks that are given up; then: name, tick in ms, the last tick that the
--       database knows of (0 none), ticks given up before this one, 1 if it is late, 1 if it may run beside the one
--       before, id of the message ('' none)
-- Returns {what, what enqueue returns}. What: 0 fired before, 1 sent, 2 given up, 3 not sent because the one before is
--         still on its way, or another task has its idempotency key; 4 refused: it may be tried again.
-- @include index
-- @include clock
-- @include tick
local function send()
-- @script enqueue
end

return fire_tick(send, function(reply) return #reply == 2 end)
