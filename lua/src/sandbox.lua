-- What surrounds a script. Everything a script can reach is named here; nothing else of Lua is.
--
-- Why so much of it is Lua: a wrapper in Lua is seen by the hook that counts instructions, and it keeps
-- `pcall` and coroutines able to yield.
local native = ...

local pcall, error, select, type, setmetatable = pcall, error, select, type, setmetatable
local was_over = native.was_over
local base = {}

-- A native answers `true` and its values, or `false` and the text of an error.
local function answered(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

-- The end of the time must pass through whatever a script has built to catch errors.
local function let_through(ok, ...)
  if not ok and was_over() then error((...), 0) end
  return ok, ...
end

function base.pcall(...) return let_through(pcall(...)) end

-- Rebuilt on pcall: the handler of the real xpcall runs where the end of the time cannot pass.
local function handled(handler, ok, ...)
  if ok then return true, ... end
  return false, handler(...)
end
function base.xpcall(f, handler, ...) return handled(handler, let_through(pcall(f, ...))) end

-- `__gc` runs with the hook off.
function base.setmetatable(t, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    error("a metatable with __gc is not allowed in a wiring script", 2)
  end
  return setmetatable(t, metatable)
end

for _, name in ipairs {
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawget", "rawlen", "rawset", "select",
  "tonumber", "tostring", "type", "_VERSION",
} do
  base[name] = _G[name]
end

local function copy(library)
  local t = {}
  for name, f in pairs(library) do t[name] = f end
  return t
end

base.math, base.utf8 = copy(math), copy(utf8)

base.coroutine = copy(coroutine)
local resume, close = coroutine.resume, coroutine.close
function base.coroutine.resume(...) return let_through(resume(...)) end
function base.coroutine.close(...) return let_through(close(...)) end

-- The library's own loops cannot be interrupted: those that a script can make endless are bounded, by the
-- size that a table really has and by the steps that a pattern takes.
local most = 1000000
base.table = copy(table)
local insert, remove, sort = table.insert, table.remove, table.sort
local concat, move, unpack = table.concat, table.move, table.unpack
local function measured(name, t)
  if native.has_length_of_its_own(t) then
    error("table." .. name .. " takes no table with a __len of its own", 3)
  end
end
local function bounded(name, first, last)
  local a, b = tonumber(first), tonumber(last)
  if a and b and b - a > most then
    error("table." .. name .. " takes at most " .. most .. " entries", 3)
  end
end
function base.table.insert(t, ...)
  measured("insert", t)
  return insert(t, ...)
end
function base.table.remove(t, ...)
  measured("remove", t)
  return remove(t, ...)
end
function base.table.sort(t, ...)
  measured("sort", t)
  return sort(t, ...)
end
function base.table.concat(t, separator, first, last)
  measured("concat", t)
  bounded("concat", first or 1, last)
  return concat(t, separator, first, last)
end
function base.table.unpack(t, first, last)
  measured("unpack", t)
  bounded("unpack", first or 1, last)
  return unpack(t, first, last)
end
function base.table.move(from, first, last, ...)
  bounded("move", first, last)
  return move(from, first, last, ...)
end

base.string = copy(string)
base.string.dump = nil
local rep = string.rep
function base.string.rep(s, count, separator)
  if s == "" and (separator == nil or separator == "") then return "" end
  return rep(s, count, separator)
end
for name, f in pairs(native.patterns) do base.string[name] = f end
-- Methods of texts (`s:find(…)`) are the same functions.
getmetatable("").__index = base.string
getmetatable("").__metatable = false

function base.print(...)
  local words = {}
  for i = 1, select("#", ...) do words[i] = tostring((select(i, ...))) end
  native.print(concat(words, "\t"))
end

setmetatable(base, {
  __index = function(_, name) answered(native.missing(name)) end,
  __metatable = false,
})

-- The module. A constructor with a name takes its table in a second call: tempos.topic "name" { … }.
local tempos = {}
-- What was declared, so that a hook can change a part of it: a copy of each table, up to a bound.
local declared, kept, keep_most = { qos = {}, topic = {}, workflow = {} }, 0, 20000
local function copied(fields)
  local t = {}
  for key, value in next, fields do t[key] = value end
  return t
end
local function keep(kind, name, fields)
  local of = declared[kind]
  if of and type(name) == "string" and type(fields) == "table" and kept < keep_most then
    kept = kept + 1
    of[name] = copied(fields)
  end
end
local function curried(kind)
  return function(name, ...)
    local handle = answered(native.begin(kind, name))
    local function finish(fields)
      keep(kind, name, fields)
      return (native.finish(handle, fields))
    end
    if select("#", ...) > 0 then return finish((...)) end
    return finish
  end
end
for _, kind in ipairs(native.kinds) do tempos[kind] = curried(kind) end
for _, adapter in ipairs(native.adapters) do
  if tempos[adapter] == nil then
    tempos[adapter] = function(fields) return (answered(native.channel(adapter, fields))) end
  end
end
tempos.hostname = native.hostname
function tempos.env(name) return (answered(native.env(name))) end

-- Hooks: functions that are called when something happens, after the wiring is in force.
local handlers, changed = {}, {}
function tempos.on(event, options, handler)
  if handler == nil then options, handler = {}, options end
  if type(handler) ~= "function" then
    error("tempos.on takes an event and a function: tempos.on(\"overload\", function(e) … end)", 2)
  end
  answered(native.on(event, options))
  handlers[#handlers + 1] = handler
end
function tempos.change(kind, name, fields)
  local of = declared[kind]
  if not of then error("tempos.change changes a \"topic\", a \"workflow\" or a \"qos\"", 2) end
  if type(fields) ~= "table" then error("tempos.change takes a kind, a name and a table of keys", 2) end
  local handle = answered(native.begin_change(kind, name))
  local base = of[name]
  if base == nil then
    if kept >= keep_most then error("hooks can change the first " .. keep_most .. " declarations only", 2) end
    error("no script declares the " .. kind .. " \"" .. name .. "\" that is to be changed", 2)
  end
  for _, change in ipairs(changed) do
    if change.of == of and change.name == name then
      error("the " .. kind .. " \"" .. name .. "\" was changed in this call already; give all keys at once", 2)
    end
  end
  local merged = copied(base)
  for key, value in next, fields do merged[key] = value end
  changed[#changed + 1] = { of = of, name = name, fields = merged }
  native.finish(handle, merged)
end
local function call_hook(index, event)
  changed = {}
  handlers[index](event)
end
-- The changes are in force, or were refused.
local function settle(applied)
  if applied then
    for _, change in ipairs(changed) do change.of[change.name] = change.fields end
  end
  changed = {}
end

setmetatable(tempos, {
  __index = function(_, name)
    native.unknown(name)
    -- The mistake is noted: the script goes on, so that the others come to light as well.
    local function swallow(first)
      if type(first) == "string" then return swallow end
      return native.wrong
    end
    return swallow
  end,
  __newindex = function() error("the module tempos cannot be changed", 2) end,
  __metatable = false,
})
base.tempos = tempos

-- Every script and module has its own globals; what they share goes through `require`.
local loaded, loading = {}, {}
local environment
local function requirer(folder)
  return function(name)
    if name == "tempos" then return tempos end
    local path, alias = answered(native.find_module(folder, name))
    local value = loaded[path]
    if value == loading then error("module \"" .. name .. "\" requires itself", 2) end
    if value ~= nil then return value end
    loaded[path] = loading
    local chunk = answered(native.load_module(path, alias, environment(folder)))
    local ok, result = base.pcall(chunk, name)
    if not ok then
      loaded[path] = nil
      error(result, 0)
    end
    if result == nil then result = true end
    loaded[path] = result
    return result
  end
end
function environment(folder)
  local own = setmetatable({ require = requirer(folder) }, { __index = base, __metatable = false })
  own._G = own
  return own
end

local names = {}
for name in pairs(base) do names[#names + 1] = name end
names[#names + 1] = "require"

return environment, xpcall, native.note_raise, names, call_hook, settle
