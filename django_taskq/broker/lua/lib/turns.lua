-- Takes from the lanes of one queue: the highest priority first, and the lanes of one priority in turn, a few messages
-- each, where some of them are shares. A lane that has had its turn goes to the end of the line, so of any number of
-- shares none is forgotten, although a claim looks at no more than MOST_LANES.
-- @include shares
local MOST_LANES, MOST_IDLE, MOST_A_TURN = 512, 8, 32
local unseen = false -- lanes that this claim has not looked at, although it has found nothing

local function is_used_up()
  return left <= 0 or bytes <= 0 or looks <= 0
end

-- Up to `most` messages of one lane; returns how many.
local function take_some(lane, lanes, most)
  suffix = string.sub(lane, #prefix + 1)
  if not is_ours(suffix) then return 0 end
  gates = (paused_tasks or queue_gates[queue] or string.find(suffix, ':g%w*$')) and gatekeeper() or nil
  local before = left
  left = math.min(left, most)
  local rest = before - left
  hand_over(lane, lanes, queue)
  left = left + rest
  return before - left
end

-- Rounds, until nothing waits or the budget is used up; what nothing waits of stands aside.
local function take_turns(group, lanes)
  local line, scores = group, {}
  while #line > 0 and not is_used_up() do
    local most, longer = math.max(1, math.min(MOST_A_TURN, math.floor(left / #line))), {}
    for _, lane in ipairs(line) do
      if is_used_up() then break end
      local taken = take_some(lane, lanes, most)
      -- To have used up the claim's looks at what may not start is a turn, too.
      if taken > 0 or is_used_up() then
        scores[lane] = true
      elseif is_share(lane) then
        scores[lane] = IDLE
      end
      if taken >= most then longer[#longer + 1] = lane end
    end
    line = longer
  end
  local changes = {}
  for lane, score in pairs(scores) do
    changes[#changes + 1] = last_turn(score == IDLE and IDLE or priority_of(string.sub(lane, #prefix + 1)))
    changes[#changes + 1] = lane
  end
  if #changes > 0 then redis.call('ZADD', lanes, 'XX', unpack(changes)) end
end

-- Returns true when there are more lanes in line.
local function take_from_first(lanes, most)
  local listed, group, shares, base = redis.call('ZREVRANGE', lanes, 0, most - 1, 'WITHSCORES'), {}, false, nil
  local idle = 0
  local function take_group()
    if shares then
      take_turns(group, lanes)
    else
      for _, lane in ipairs(group) do
        if not is_used_up() then take_some(lane, lanes, left) end
      end
    end
  end
  for position = 1, #listed, 2 do
    local lane, score = listed[position], math.ceil(tonumber(listed[position + 1]))
    if score <= IDLE then
      idle = idle + 1
      if idle > MOST_IDLE then break end
    end
    if score ~= base then
      take_group()
      group, shares, base = {}, false, score
    end
    if is_used_up() then return false end
    group[#group + 1], shares = lane, shares or is_share(lane)
  end
  take_group()
  return idle == 0 and #listed == most * 2 and not is_used_up()
end

-- Mostly the first few have enough, and thousands of names take longer than what is to be handed over.
local function take_from(lanes)
  local few = math.min(MOST_LANES, 32 + 2 * left)
  if take_from_first(lanes, few) then unseen = take_from_first(lanes, MOST_LANES) or unseen end
end
