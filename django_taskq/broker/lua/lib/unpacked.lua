-- The message of a scheduled task: the suffix of its lane, then its fields; nil when it cannot be read.
local function is_suffix(text)
  return string.find(text, '^[^:]+:%-?%d+$') or string.find(text, '^[^:]+:%-?%d+:%a%w*$')
end

local function unpacked(packed)
  local readable, message = pcall(cmsgpack.unpack, packed or '')
  if not readable or type(message) ~= 'table' or #message < 3 or #message % 2 == 0 then return nil end
  for _, part in ipairs(message) do
    if type(part) ~= 'string' then return nil end
  end
  return is_suffix(message[1]) and message
end
