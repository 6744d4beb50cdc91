-- Rate limits. A message reserves its slot when a claim first meets it, and waits for it in the schedule; the slot is in
-- its field c, so it is not asked for again. That alone would not keep the limit: after a stall all slots that have
-- passed would be due at once. So a slot that is met late by more than `tolerance` moves the whole plan (`shift`) by the
-- rest of the delay: it is as if time had stood still, and order and distances stay. Every start is then within
-- `tolerance` after a moment of its own, and these moments keep their distance; `interval` is so much longer than the
-- limit asks for that n + 1 starts never fit into a window of n (rates.py). A message that others have passed (they were
-- due by the plan as it was, it by the plan as it is now) or whose slot belongs to a plan that was forgotten goes next:
-- one interval after the last start, and the plan moves by an interval.
-- So does a message that has used its slot and is handed over once more (slot 0, before all others).
-- A rate that was declared anew is planned from the last start on; slots of the plan before are replaced (replan.lua).
-- State of a limit, in us: n next slot, s shift, l last slot used, i the interval at which n was planned.
local function plan(gate, slot, now)
  local _, name, interval, lead, tolerance = unpack(gate)
  local key = NS .. 'rate:' .. name
  local known = redis.call('HMGET', key, 'n', 's', 'l', 'i')
  local rate = {key = key, next = tonumber(known[1] or nil), shift = tonumber(known[2] or nil) or 0, interval = interval}
  rate.last, rate.slot = tonumber(known[3] or nil), slot
  if rate.last and tonumber(known[4] or nil) and tonumber(known[4]) ~= interval and declared('r', name) then
    rate.next = rate.last + interval
  end
  local virtual = now - rate.shift
  if not rate.next or not slot then
    rate.slot, rate.next = gcra(rate.next or 0, virtual, interval, lead)
    rate.reserved = true
  end
  rate.last = rate.last or rate.slot - interval
  rate.used = rate.slot
  rate.due = rate.slot + rate.shift
  local late = virtual - rate.slot
  if rate.slot < rate.last + interval - lead or late > tolerance and rate.slot < rate.last then
    rate.due = rate.last + interval + rate.shift
    rate.shift = math.max(rate.due, now - tolerance) - rate.last
    rate.used = rate.last
  elseif late > tolerance then
    rate.shift = rate.shift + late - tolerance
  end
  return rate
end

-- With the numbers that hold now; nil where there is no limit any more.
local function as_declared(gate)
  local numbers = declared('r', gate[2])
  if not numbers then return gate end
  return numbers[1] > 0 and {'r', gate[2], unpack(numbers)} or nil
end

-- When nobody waits for it any more, a limit is as good as one that never was.
local function keep(rate, now)
  redis.call('PEXPIRE', rate.key, number(math.max(0, rate.next + rate.shift - now) / 1000 + 60000))
end

local function forget_slots(fields, gates)
  local slots = {}
  for _, gate in ipairs(gates) do
    if gate[1] == 'r' then slots[#slots + 1] = '0' end
  end
  if #slots > 0 then set_value(fields, 'c', table.concat(slots, ' ')) end
end

-- Nil: the message may start now, and has used its slots; its field c says which, and the time: for the worker, who
-- knows when it starts (late.lua). Otherwise the time in us at which it may; the field says by which intervals its slots
-- were planned (replan.lua).
local function wait_for_slots(gates, fields, now)
  local given, slots, rates, due = {}, {}, {}, 0
  for text in string.gmatch(value_of(fields, 'c') or '', '%d+') do given[#given + 1] = tonumber(text) end
  for _, gate in ipairs(gates) do
    if gate[1] == 'r' then
      local limited = as_declared(gate)
      local rate = limited and plan(limited, given[#rates + 1], now) or {slot = 0, used = 0, due = 0}
      rates[#rates + 1] = rate
      due = math.max(due, rate.due)
    end
  end
  if #rates == 0 then return nil end
  for position, rate in ipairs(rates) do
    if rate.reserved then
      redis.call('HSET', rate.key, 'n', number(rate.next), 'l', number(rate.last), 'i', number(rate.interval))
    end
    if due <= now and rate.key then
      redis.call('HSET', rate.key, 's', number(rate.shift), 'l', number(math.max(rate.last, rate.slot)))
    end
    if rate.key then keep(rate, now) end
    slots[position] = number(due <= now and rate.used or rate.slot)
  end
  local more = due <= now and {number(now)} or {}
  for position, rate in ipairs(due > now and rates or {}) do
    local interval = not rate.reserved and given[#rates + position] or rate.interval or 0
    more[position] = number(interval)
  end
  set_value(fields, 'c', table.concat(slots, ' ', 1, #rates) .. ' ' .. table.concat(more, ' '))
  return due > now and due or nil
end
