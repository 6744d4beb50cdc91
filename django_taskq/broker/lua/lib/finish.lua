-- The end of a run: its outcome joins the stream, the index names it, the idempotency key ends with it (success keeps
-- it for `ttl` ms, every other end frees it, and only while it is this task's), and whoever waits is told. Until
-- `write_ends` only `is_over` knows of it.
local counts, ended, places = {}, {}, {}

local function finish(id, state, outcome, key, ttl)
  local entry = redis.call('XADD', K.outcomes, '*', 'i', id, 'o', outcome)
  places[#places + 1] = index_field(id)
  places[#places + 1] = 'o' .. entry
  is_over[id] = true
  if key ~= '' and redis.call('GET', key) == id then
    if ttl ~= '0' then redis.call('PEXPIRE', key, ttl) else redis.call('DEL', key) end
  end
  redis.call('PUBLISH', done_prefix .. id, state)
  counts[state] = (counts[state] or 0) + 1
  ended[#ended + 1] = id
end

-- What is the same for all of a call, written once.
local function write_ends()
  if #ended == 0 then return end
  redis.call('HSET', K.index, unpack(places))
  for state, count in pairs(counts) do redis.call('HINCRBY', K.totals, queue .. ':' .. state, count) end
  if redis.call('EXISTS', K.cancels) == 1 then redis.call('HDEL', K.cancels, unpack(ended)) end
end
