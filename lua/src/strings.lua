-- The pattern functions of the string library, on a matcher that can be stopped.
local native_search, native_expand, find_plain = ...
local type, error, select, byte, sub, concat = type, error, select, string.byte, string.sub, table.concat
local find_special = "[%^%$%*%+%?%.%(%[%%%-]"

local function answered(ok, ...)
  if not ok then error((...), 0) end
  return ...
end
local function search(...) return answered(native_search(...)) end
local function expand(...) return answered(native_expand(...)) end

local function text(value, at, name)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return value .. "" end
  error("bad argument #" .. at .. " to '" .. name .. "' (string expected, got " .. kind .. ")", 3)
end

-- An offset from 0, as the library counts positions from 1 or from the end.
local function offset(init, length, name)
  if init == nil then return 0 end
  local number = math.tointeger(tonumber(init))
  if not number then error("bad argument #3 to '" .. name .. "' (number expected)", 3) end
  if number > 0 then return number - 1 end
  if number == 0 or number < -length then return 0 end
  return length + number
end

local function anchor(pattern)
  if byte(pattern, 1) == 94 then return sub(pattern, 2), true end
  return pattern, false
end

local functions = {}

local function found(first, last, ...)
  if first == nil then return nil end
  return first + 1, last, ...
end

function functions.find(s, pattern, init, plain)
  s, pattern = text(s, 1, "find"), text(pattern, 2, "find")
  local from = offset(init, #s, "find")
  if from > #s then return nil end
  if plain or search(pattern, find_special, 0) == nil then return find_plain(s, pattern, from) end
  local rest, anchored = anchor(pattern)
  return found(search(s, rest, from, nil, anchored))
end

local function matched(s, first, last, ...)
  if first == nil then return nil end
  if select("#", ...) == 0 then return sub(s, first + 1, last) end
  return ...
end

function functions.match(s, pattern, init)
  s, pattern = text(s, 1, "match"), text(pattern, 2, "match")
  local from = offset(init, #s, "match")
  if from > #s then return nil end
  local rest, anchored = anchor(pattern)
  return matched(s, search(s, rest, from, nil, anchored))
end

function functions.gmatch(s, pattern, init)
  s, pattern = text(s, 1, "gmatch"), text(pattern, 2, "gmatch")
  local from, before = offset(init, #s, "gmatch"), nil
  local function advance(first, last, ...)
    if first == nil then
      from = #s + 1
      return nil
    end
    from, before = last, last
    return matched(s, first, last, ...)
  end
  return function()
    if from > #s then return nil end
    return advance(search(s, pattern, from, before))
  end
end

local function replaced(s, replacement, kind, first, last, ...)
  local whole = sub(s, first + 1, last)
  local value
  if kind == "string" then
    return expand(replacement, whole, ...)
  elseif kind == "table" then
    value = replacement[select("#", ...) == 0 and whole or (...)]
  elseif select("#", ...) == 0 then
    value = replacement(whole)
  else
    value = replacement(...)
  end
  if not value then return whole end
  if type(value) == "string" then return value end
  if type(value) == "number" then return value .. "" end
  error("invalid replacement value (a " .. type(value) .. ")", 3)
end

function functions.gsub(s, pattern, replacement, most)
  s, pattern = text(s, 1, "gsub"), text(pattern, 2, "gsub")
  local kind = type(replacement)
  if kind == "number" then
    replacement, kind = replacement .. "", "string"
  elseif kind ~= "string" and kind ~= "table" and kind ~= "function" then
    error("bad argument #3 to 'gsub' (string/function/table expected, got " .. kind .. ")", 2)
  end
  local rest, anchored = anchor(pattern)
  most = most == nil and #s + 1 or math.tointeger(tonumber(most))
  if not most then error("bad argument #4 to 'gsub' (number expected)", 2) end
  local pieces, from, before, count = {}, 0, nil, 0
  local function advance(first, last, ...)
    if first == nil then return false end
    pieces[#pieces + 1] = sub(s, from + 1, first)
    pieces[#pieces + 1] = replaced(s, replacement, kind, first, last, ...)
    from, before, count = last, last, count + 1
    return not anchored
  end
  while count < most and advance(search(s, rest, from, before, anchored)) do end
  pieces[#pieces + 1] = sub(s, from + 1)
  return concat(pieces), count
end

return functions
