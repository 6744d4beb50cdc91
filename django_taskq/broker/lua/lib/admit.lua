-- A message that is new to the broker goes to its lane, or to the schedule when it is due later.
-- ARGV from `at`: id, due ('' now, '+ms' from now, 'ms' absolute), expires in ms ('' never) and perhaps after a space
-- its deadline in ms, key ('' none), number of values, values (the message's fields).
local admitted, accepted = 0, 0

local function to_lane(id, ...)
  if admitted == 0 then open_lane(K.lane, K.lanes, suffix, K.ready, queue) end
  local entry = redis.call('XADD', K.lane, '*', ...)
  set_location(K.index, id, entry .. ' ' .. suffix)
  admitted = admitted + 1
end

local function admit(at, now)
  accepted = accepted + 1
  local id, due, expires_in, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 4])
  local first, last = at + 5, at + 4 + count
  if due == '' and expires_in == '' then return to_lane(id, unpack(ARGV, first, last)) end
  local fields = {unpack(ARGV, first, last)}
  if expires_in ~= '' then
    local expires, deadline = string.match(expires_in, '^(%-?%d*) ?(%-?%d*)$')
    if expires ~= '' then
      fields[#fields + 1] = 'x'
      fields[#fields + 1] = number(now + tonumber(expires))
    end
    if deadline ~= '' then
      local at, ends = #fields + 1, now + tonumber(deadline)
      for position = 1, #fields, 2 do
        -- It has one from the task that sent it.
        if fields[position] == 'D' then at, ends = position, math.min(ends, tonumber(fields[position + 1])) end
      end
      fields[at], fields[at + 1] = 'D', number(ends)
    end
  end
  local when = now
  if due ~= '' then when = string.sub(due, 1, 1) == '+' and now + tonumber(due) or tonumber(due) end
  if when <= now then return to_lane(id, unpack(fields)) end
  fields[#fields + 1] = 'e'
  fields[#fields + 1] = number(now)
  schedule(id, when, fields, now)
end

local function count_accepted(now)
  if accepted == 0 then return end
  local key = minute_key(now)
  if redis.call('HINCRBY', key, 'e:' .. queue, accepted) == accepted then redis.call('EXPIRE', key, KEPT_SECONDS) end
end
