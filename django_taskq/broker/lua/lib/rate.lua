-- Rate limits. A message reserves its slot when a claim first meets it, and waits for it in the schedule; the slot is in
-- its field c, so it is not asked for again. That alone would not keep the limit: after a stall all slots that have
-- passed would be due at once. So a slot that is met late by more than `tolerance` moves the whole plan (`shift`) by the
-- rest of the delay: it is as if time had stood still, and order and distances stay. Every start is then within
-- `tolerance` after a moment of its own, and these moments keep their distance; `interval` is so much longer than the
-- limit asks for that n + 1 starts never fit into a window of n (rates.py). A message that comes out of order
-- (its slot is before the last that was used, or before the plan was moved) cannot move the plan: it gets a new slot.
-- State of a limit, in us: n next slot, s shift, f slots before this are void, l last slot used.
local function plan(gate, slot, now)
  local _, name, interval, lead, tolerance = unpack(gate)
  local key = NS .. 'rate:' .. name
  local known = redis.call('HMGET', key, 'n', 's', 'f', 'l')
  local rate = {key = key, next = tonumber(known[1]), shift = tonumber(known[2] or nil) or 0}
  rate.floor, rate.last = tonumber(known[3] or nil), tonumber(known[4] or nil) or 0
  local virtual = now - rate.shift
  local late = slot and virtual - slot
  if not rate.next or not slot or slot < rate.floor or late > tolerance and slot < rate.last then
    rate.slot, rate.next = gcra(rate.next or 0, virtual, interval, lead)
    rate.floor = rate.floor or rate.slot -- slots of a plan that is forgotten
    rate.reserved = true
  else
    rate.slot = slot
    if late > tolerance then rate.shift, rate.floor = rate.shift + late - tolerance, slot end
  end
  rate.due = rate.slot + rate.shift
  return rate
end

-- When nobody waits for it any more, a limit is as good as one that never was.
local function keep(rate, now)
  redis.call('PEXPIRE', rate.key, number(math.max(0, rate.next + rate.shift - now) / 1000 + 60000))
end

-- Nil: the message may start now, and has used its slots. Otherwise the time in us at which it may.
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
    if rate.reserved then redis.call('HSET', rate.key, 'n', number(rate.next), 'f', number(rate.floor)) end
    if due <= now then
      rate.last = math.max(rate.last, rate.slot)
      redis.call('HSET', rate.key, 's', number(rate.shift), 'f', number(rate.floor), 'l', number(rate.last))
    end
    keep(rate, now)
    slots[position] = number(rate.slot)
  end
  if due <= now then return nil end
  set_value(fields, 'c', table.concat(slots, ' ', 1, #rates))
  return due
end
