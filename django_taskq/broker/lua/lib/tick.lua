-- One tick of a periodic task, around a script that sends its message. Needs index and clock.
-- The tick is sent and noted in one step, so it is fired once, whoever tries it, and how often: one that is not later
-- than the last one noted is fired no more. Takes its arguments off ARGV, which `send` reads to the end.
-- `send` returns its reply, `key_taken` says whether that is of a message whose idempotency key belongs to another task.
local STEP = 3600000 -- ms; a note further ahead than this was made before the clock stepped back
local BEFORE, SENT, GIVEN_UP, OVERLAPPED, REFUSED = 0, 1, 2, 3, 4

local function is_on_its_way(other)
  local location = other and location_of(KEYS[1], other)
  return location and string.sub(location, 1, 1) ~= 'o'
end

local function fire_tick(send, key_taken)
  local id, beside, late, missed = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
  local settled, tick, name = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
  local notes = KEYS[#KEYS]
  local known = redis.call('HMGET', notes, name .. ':tick', name .. ':id')
  local horizon = now_ms() + STEP
  for _, last in ipairs({tonumber(known[1] or '0'), tonumber(settled)}) do
    if tonumber(tick) <= last and last <= horizon then return {BEFORE, {}} end
  end
  local what, reply = GIVEN_UP, {}
  if id ~= '' then
    if beside ~= '1' and is_on_its_way(known[2]) then
      what = OVERLAPPED
    else
      reply = send()
      what = is_known(KEYS[1], id) and SENT or key_taken(reply) and OVERLAPPED or REFUSED
      if what == REFUSED then return {REFUSED, reply} end
    end
  end
  redis.call('HSET', notes, name .. ':tick', tick)
  if missed ~= '0' then redis.call('HINCRBY', notes, name .. ':missed', missed) end
  if what == OVERLAPPED then redis.call('HINCRBY', notes, name .. ':overlapped', 1) end
  if what == SENT then
    redis.call('HSET', notes, name .. ':id', id)
    redis.call('HINCRBY', notes, name .. ':fired', 1)
    if late == '1' then redis.call('HINCRBY', notes, name .. ':late', 1) end
  end
  return {what, reply}
end
