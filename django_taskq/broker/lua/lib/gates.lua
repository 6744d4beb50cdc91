-- What decides, message by message, whether a claim may hand it over. What may not run now leaves the lane, so that a
-- claim never looks at it again before it may. Needs what claim.lua says of the
-- lane at hand (`queue`, `suffix`, `K`) and the time (`now`, `micros`), `paused` and `queue_gates`.
local GO, CONFLICT, REPLACED = 0, 2, 3
local MARK = 'replaced' -- in field z: a newer call has taken this one's place in the waiting list

local function gates_of(fields)
  local readable, gates = pcall(cmsgpack.unpack, value_of(fields, 'q') or '')
  gates = readable and type(gates) == 'table' and gates or {}
  for _, gate in ipairs(queue_gates[queue] or {}) do gates[#gates + 1] = gate end
  return gates
end

-- Of the calls that wait for one place only the newest survives. Whether that is the call sent at `sent`.
local function replace_waiting(limit, sent)
  for _, id in ipairs(redis.call('ZRANGE', NS .. 'waiting:' .. limit, 0, 99)) do
    local message = unpacked(parked_message(id))
    if message and tonumber(value_of(message, 'e', 2)) > sent then return false end
    unpark(id, function(fields) set_value(fields, 'z', MARK, 2) end)
  end
  return true
end

-- What leaves the lane takes along the losses that its entry has counted (0 for one that comes back unharmed, nil for
-- one that no worker has had), and when it was sent: its next entry says neither.
local function take_along(fields, sent, losses)
  set_value(fields, 'e', number(sent))
  if (losses or 0) > 0 then set_value(fields, 'l', number((tonumber(value_of(fields, 'l')) or 0) + losses)) end
end

-- Nil: there is room under every concurrency limit. Otherwise a verdict, or 'parked'.
local function crowded(gates, id, fields, sent, losses)
  for _, gate in ipairs(gates) do
    local kind, limit, max, conflict = unpack(gate)
    if kind == 'c' and not is_holder(limit, id) and not has_room(limit, max) then
      local has_started = value_of(fields, 'n') or (losses or 0) > 0
      if conflict == 'discard' and not has_started then return CONFLICT end
      if conflict == 'replace' and not replace_waiting(limit, sent) then return REPLACED end
      take_along(fields, sent, losses)
      park(id, queue, suffix, fields, limit, max)
      return 'parked'
    end
  end
end

local function pause(id, fields, sent, losses)
  take_along(fields, sent, losses)
  park(id, queue, suffix, fields, 'paused:' .. value_of(fields, 't'), 0)
  give_back({id})
end

-- Waits for its time, without the place that it got when it went on: others may use that meanwhile.
local function put_off(id, at, fields, sent, losses, gates)
  take_along(fields, sent, losses)
  schedule(id, at, fields, now)
  for _, gate in ipairs(gates) do
    if gate[1] == 'c' then return give_back({id}) end
  end
end

-- The verdict, with which the message is handed over; nil when it has left the lane. `losses`, unless it is nil: the
-- message was handed over before. It keeps the places that it holds, and what it does not hold it needs: perhaps its
-- worker was only to discard it, or knew of no limit. Its start counts once more, and goes before those that wait.
local function examine(entry, fields, losses)
  local id = value_of(fields, 'i')
  if not id or #id ~= 16 then return GO end
  if value_of(fields, 'z') == MARK then return REPLACED end
  local sent = tonumber(value_of(fields, 'e') or string.match(entry, '^%d+'))
  local gates = gates_of(fields)
  if losses then forget_slots(fields, gates) end
  if paused['task:' .. (value_of(fields, 't') or '')] then
    pause(id, fields, sent, losses)
    return nil
  end
  local verdict = crowded(gates, id, fields, sent, losses)
  if verdict then return verdict ~= 'parked' and verdict or nil end
  for _, gate in ipairs(gates) do
    local again = gate[1] == 'b' and broken_until(gate[2], id, gate[3], now)
    if again then return put_off(id, again, fields, sent, losses, gates) end
  end
  local due = wait_for_slots(gates, fields, micros)
  if due then return put_off(id, math.ceil(due / 1000), fields, sent, losses, gates) end
  for _, gate in ipairs(gates) do
    if gate[1] == 'c' then hold(gate[2], id, entry .. ' ' .. suffix) end
  end
  return GO
end
