-- Part of the scripts that hand out entries: how one looks when it leaves.
--
-- An entry becomes four values: id, attempt, length, body. The body is the field `data`, and of
-- one that is longer than the limit only its beginning: length then tells how long it was. An
-- entry of somebody else without `data` has length -1, and as its body what it has instead.

-- What is kept of a body that is too long.
local KEPT = 65536

local entries, bytes = {}, 0

local function put(id, attempt, fields, limit)
  local data
  for field = 1, #fields, 2 do
    if fields[field] == 'data' then
      data = fields[field + 1]
      break
    end
  end
  local length = -1
  if data then
    length = #data
    if length > limit then
      data = string.sub(data, 1, KEPT)
    end
  else
    local parts, kept = {}, 0
    for field = 1, #fields, 2 do
      if kept > KEPT then
        break
      end
      local part = fields[field] .. '=' .. fields[field + 1]
      kept = kept + #part
      parts[#parts + 1] = part
    end
    data = string.sub(table.concat(parts, '\n'), 1, KEPT)
  end
  bytes = bytes + #data
  entries[#entries + 1] = id
  entries[#entries + 1] = attempt
  entries[#entries + 1] = length
  entries[#entries + 1] = data
end
