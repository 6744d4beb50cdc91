-- Fields of a message, a flat list of names and values from `first` on.
local function value_of(fields, name, first)
  for position = first or 1, #fields - 1, 2 do
    if fields[position] == name then return fields[position + 1] end
  end
  return nil
end

local function set_value(fields, name, value, first)
  for position = first or 1, #fields - 1, 2 do
    if fields[position] == name then
      fields[position + 1] = value
      return
    end
  end
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
