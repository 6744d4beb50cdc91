-- The KEYS and first ARGV of every script that works on one lane of one queue (broker/scripts.py, LaneCall).
local K = {
  index = KEYS[1], ready = KEYS[2], due = KEYS[3], outcomes = KEYS[4], cancels = KEYS[5], totals = KEYS[6],
  lane = KEYS[7], lanes = KEYS[8], scheduled = KEYS[9], messages = KEYS[10], sleepers = KEYS[11], wake = KEYS[12],
}
local queue, done_prefix, stats_prefix = ARGV[1], ARGV[3], ARGV[4]
local suffix = queue .. ':' .. ARGV[2] -- the priority, or priority:share
local FIRST = 5
