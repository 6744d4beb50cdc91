-- fire_displace: fire for a queue whose oldest tasks make room: its message is sent as displace does.
-- KEYS  as displace, then the notes of periodic tasks
-- ARGV  as displace, then as fire
-- Returns {what, what displace returns}, what as fire does.
-- @include index
-- @include clock
-- @include tick
local function send()
-- @script displace
end

return fire_tick(send, function(reply) return reply[1] == 1 and #reply[3] == 2 end)
