-- @include close_lane
-- Takes settled entries out of the lane.
local function leave_lane(entries)
  if #entries == 0 then return end
  redis.call('XACK', K.lane, 'workers', unpack(entries))
  redis.call('XDEL', K.lane, unpack(entries))
  close_empty_lane(K.lane, K.lanes, K.ready, queue)
end
