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

-- Nil: there is room under every concurrency limit. Otherwise a verdict, or 'parked'.
local function crowded(gates, id, fields, sent)
  for _, gate in ipairs(gates) do
    local kind, limit, max, conflict = unpack(gate)
    if kind == 'c' and not is_holder(limit, id) and not has_room(limit, max) then
      if conflict == 'discard' and not value_of(fields, 'n') then return CONFLICT end
      if conflict == 'replace' and not replace_waiting(limit, sent) then return REPLACED end
      set_value(fields, 'e', number(sent)) -- its next entry does not say it
      park(id, queue, suffix, fields, limit, max)
      return 'parked'
    end
  end
end

local function pause(id, fields, entry)
  set_value(fields, 'e', value_of(fields, 'e') or string.match(entry, '^%d+'))
  park(id, queue, suffix, fields, 'paused:' .. value_of(fields, 't'), 0)
  give_back({id})
end

-- Waits for its time, without the place that it got when it went on: others may use that meanwhile.
local function put_off(id, at, fields, sent, gates)
  set_value(fields, 'e', number(sent))
  schedule(id, at, fields, now)
  for _, gate in ipairs(gates) do
    if gate[1] == 'c' then return give_back({id}) end
  end
end

-- The verdict, with which the message is handed over; nil when it has left the lane.
local function examine(entry, fields)
  local id = value_of(fields, 'i')
  if not id or #id ~= 16 then return GO end
  if value_of(fields, 'z') == MARK then return REPLACED end
  local task = value_of(fields, 't')
  if paused['task:' .. (task or '')] then
    pause(id, fields, entry)
    return nil
  end
  local sent = tonumber(value_of(fields, 'e') or string.match(entry, '^%d+'))
  local gates = gates_of(fields)
  local verdict = crowded(gates, id, fields, sent)
  if verdict then return verdict ~= 'parked' and verdict or nil end
  for _, gate in ipairs(gates) do
    local again = gate[1] == 'b' and broken_until(gate[2], id, gate[3], now)
    if again then return put_off(id, again, fields, sent, gates) end
  end
  local due = wait_for_slots(gates, fields, micros)
  if due then return put_off(id, math.ceil(due / 1000), fields, sent, gates) end
  for _, gate in ipairs(gates) do
    if gate[1] == 'c' then hold(gate[2], id, entry .. ' ' .. suffix) end
  end
  return GO
end

-- What was let through once is asked nothing again, but its task may be paused. Its losses go with it.
local function pause_returned(entry, fields, losses)
  local id = value_of(fields, 'i')
  if not id or #id ~= 16 or not paused['task:' .. (value_of(fields, 't') or '')] then return false end
  if losses > 0 then set_value(fields, 'l', number((tonumber(value_of(fields, 'l')) or 0) + losses)) end
  pause(id, fields, entry)
  return true
end
