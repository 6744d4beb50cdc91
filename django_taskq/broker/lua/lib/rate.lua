-- Rate limits. A message reserves its slot when a claim first meets it, and waits for it in the schedule; the slot is in
-- its field c, so it is not asked for again. That alone would not keep the limit: after a stall all slots that have
-- passed would be due at once. So a slot that is met late by more than `tolerance` moves the whole plan (`shift`) by the
-- rest of the delay: it is as if time had stood still, and order and distances stay. Every start is then within
-- `tolerance` after a moment of its own, and these moments keep their distance; `interval` is so much longer than the
-- limit asks for that n + 1 starts never fit into a window of n (rates.py). A message that others have passed (they were
-- due by the plan as it was, it by the plan as it is now) or whose slot belongs to a plan that was forgotten goes next:
-- one interval after the last start, and the plan moves by an interval.
-- So does a message that has used its slot and is handed over once more (slot 0, before all others).
-- State of a limit, in us: n next slot, s shift, l last slot used.
local function plan(gate, slot, now)
  local _, name, interval, lead, tolerance = unpack(gate)
  local key = NS .. 'rate:' .. name
  local known = redis.call('HMGET', key, 'n', 's', 'l')
  local rate = {key = key, next = tonumber(known[1]), shift = tonumber(known[2] or nil) or 0}
  rate.last, rate.slot = tonumber(known[3] or nil), slot
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
-- knows when it starts (late.lua). Otherwise the time in us at which it may.
local function wait_for_slots(gates, fields, now)
  local slots, rates, due = {}, {}, 0
  for slot in string.gmatch(value_of(fields, 'c') or '', '%d+') do slots[#slots + 1] = tonumber(slot) end
  for _, gate in ipairs(gates) do
    if gate[1] == 'r' then
      local rate = plan(gate, slots[#rates + 1], now)
      rates[#rates + 1], slots[#rates + 1] = rate, number(rate.slot)
      due = math.max(due, rate.due)
    end
  end
  if #rates == 0 then return nil end
  for position, rate in ipairs(rates) do
    if rate.reserved then redis.call('HSET', rate.key, 'n', number(rate.next), 'l', number(rate.last)) end
    if due <= now then
      redis.call('HSET', rate.key, 's', number(rate.shift), 'l', number(math.max(rate.last, rate.slot)))
    end
    keep(rate, now)
    slots[position] = number(due <= now and rate.used or rate.slot)
  end
  local waits = due > now
  slots[#rates + 1] = waits and '' or number(now)
  set_value(fields, 'c', table.concat(slots, ' ', 1, #rates + (waits and 0 or 1)))
  return waits and due or nil
end
