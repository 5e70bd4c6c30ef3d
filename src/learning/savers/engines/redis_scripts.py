"""What Redis does for each request, in Lua: each script follows after SHARED. Keys and arguments: see `redis`."""

SHARED = r"""
local about, rows, spaces, ids, items, writes = unpack(KEYS)
local call, ANY = redis.call, '\255'

local function less(a, b)  -- by bytes, where `<` would heed the server's locale
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end

local function by_id(place) return place:sub(9) .. place:sub(1, 8) end

local function newest(space)
  return call('ZREVRANGEBYLEX', spaces, '(' .. space .. ANY, '[' .. space, 'LIMIT', 0, 1)[1] or ''
end

-- The writes of a checkpoint are in chunks, to which they are appended: of `writes`, the field `place` has their
-- number, and `place .. n` the n-th. Of a write that was made twice the first counts, or the last if its index is
-- negative.
local CHUNK = 4096

local function written(place)  -- tasks and their records
  local fields, found, at_of, all, at = {}, {}, {}, '', 1
  for n = 1, tonumber(call('HGET', writes, place) or '0') do fields[n] = place .. n end
  if #fields > 0 then all = table.concat(call('HMGET', writes, unpack(fields))) end
  while at <= #all do
    local size, start = struct.unpack('>I2', all, at)
    local task = all:sub(start, start + size - 1)
    size, start = struct.unpack('>I4', all, start + size)
    local record = all:sub(start, start + size - 1)
    at = start + size
    if not at_of[task] then
      found[#found + 1], at_of[task] = {task, record}, #found + 1
    elseif task:byte(1) == 45 then
      found[at_of[task]][2] = record
    end
  end
  return found
end

local function write(place, tasks)
  local n = tonumber(call('HGET', writes, place) or '0')
  local last = n > 0 and call('HGET', writes, place .. n) or ''
  for _, each in ipairs(tasks) do
    local task, record = unpack(each)
    if n == 0 or #last > CHUNK then
      if n > 0 then call('HSET', writes, place .. n, last) end
      n, last = n + 1, ''
    end
    last = last .. struct.pack('>I2', #task) .. task .. struct.pack('>I4', #record) .. record
  end
  call('HSET', writes, place .. n, last, place, n)
end

local function unwrite(place)
  for n = 1, tonumber(call('HGET', writes, place) or '0') do call('HDEL', writes, place .. n) end
  call('HDEL', writes, place)
end

local function needs(record)
  local names, count, run = {}, struct.unpack('>I4B', record)
  for i = 1, count do names[i] = record:sub(run + 16 * i - 10, run + 16 * i + 5) end
  return names
end

-- The items that records need, directly or not, but for those that were seen already: one string; and all names seen.
local function closure(records, seen)
  local found, at = {}, 1
  while records[at] do
    local names = {}
    for _, name in ipairs(needs(records[at])) do
      if not seen[name] then names[#names + 1], seen[name] = name, true end
    end
    for from = 1, #names, 1000 do  -- Lua's stack has no room for more
      for i, item in ipairs(call('HMGET', items, unpack(names, from, math.min(from + 999, #names)))) do
        local name = names[from + i - 1]
        if item then
          found[#found + 1], found[#found + 2], found[#found + 3] = name, struct.pack('>I4', #item), item
          if name:byte(16) % 2 == 1 then records[#records + 1] = item end  -- others need nothing
        end
      end
    end
    at = at + 1
  end
  return table.concat(found), seen
end
"""

# A failover may lose items that a caller has seen stored, and leave the epoch: so it is looked whether they are there.
STORE = r"""
local place, name, epoch, new_epoch, lineage, extends, lifetime = unpack(ARGV, 1, 7)
local old = call('HMGET', about, 'name', 'epoch', 'horizon')
if less(lineage, old[3] or '') then return {'deleted'} end
if epoch ~= ANY then
  if epoch ~= (old[2] or '0') then return {'stale'} end
  local new = {}
  for i = 8, #ARGV, 3 do new[ARGV[i + 1]] = true end
  for i = 8, #ARGV, 3 do
    for _, item in ipairs(needs(ARGV[i + 2])) do
      if not new[item] and call('HEXISTS', items, item) == 0 then return {'stale'} end
    end
  end
end
if extends ~= ANY then
  local last = newest(place:sub(1, 8))
  if last ~= extends and last ~= place then return {'conflict'} end
end

epoch = old[1] and old[2] or new_epoch
call('HSET', about, 'name', old[1] or name, 'epoch', epoch)  -- first: it fails if memory is full; for WAIT: it writes
local tasks = {}
for i = 8, #ARGV, 3 do
  local kind, field, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if kind == 'item' then
    call('HSETNX', items, field, record)
  elseif kind == 'row' then
    call('HSET', rows, field, record)
    call('ZADD', spaces, 0, field)
    call('ZADD', ids, 0, by_id(field))
  else
    tasks[#tasks + 1] = {field, record}
  end
end
if #tasks > 0 then write(place, tasks) end
for _, key in ipairs(KEYS) do
  if lifetime == ANY then call('PERSIST', key) else call('PEXPIRE', key, lifetime) end
end
return {'stored', epoch}
"""

# Takes the names of items to leave out, in one string, and places, or spaces, which stand for their newest places.
READ = r"""
if call('EXISTS', about) == 0 then return false end
local found, records, known = {}, {}, {}
for at = 1, #ARGV[1], 16 do known[ARGV[1]:sub(at, at + 15)] = true end
for i = 2, #ARGV do
  local place = ARGV[i]
  if #place == 8 then place = newest(place) end
  local row = call('HGET', rows, place)
  if row then
    local tasks = written(place)
    for _, task in ipairs(tasks) do table.insert(records, task[2]) end
    table.insert(records, row)
    table.insert(found, {place, row, tasks})
  end
end
local thread = call('HMGET', about, 'name', 'epoch')
return {thread[1] or '', thread[2] or '0', found, (closure(records, known))}
"""

SCAN = r"""
local space, below, run, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local found, page = {}, nil
repeat
  if space == ANY then
    page = call('ZREVRANGEBYLEX', ids, '(' .. below, '-', 'LIMIT', 0, count)
  else
    page = call('ZREVRANGEBYLEX', spaces, '(' .. below, '[' .. space, 'LIMIT', 0, count)
  end
  for _, member in ipairs(page) do
    local place = space == ANY and member:sub(-8) .. member:sub(1, -9) or member
    local row = call('HGET', rows, place)
    if #found < count and (run == ANY or row:sub(6, 5 + row:byte(5)) == run) then table.insert(found, {place, row}) end
    below = member
  end
until #page < count or #found >= count
return {call('HGET', about, 'name') or '', found}
"""

# What frees memory comes before what takes some, so that this works where the memory is full.
REMOVE = r"""
if call('EXISTS', about) == 0 then return 0 end
local removed = 0
for i = 2, #ARGV do
  local place = ARGV[i]
  if call('HDEL', rows, place) == 1 then
    removed = removed + 1
    call('ZREM', spaces, place)
    call('ZREM', ids, by_id(place))
    unwrite(place)
  end
end
local records = call('HVALS', rows)
for _, place in ipairs(call('HKEYS', writes)) do
  if place:sub(-2) == '\0\0' then  -- it is no chunk
    if call('HEXISTS', rows, place) == 0 and less(place, newest(place:sub(1, 8))) then
      unwrite(place)
    else
      for _, task in ipairs(written(place)) do table.insert(records, task[2]) end
    end
  end
end
local _, needed = closure(records, {})
for _, item in ipairs(call('HKEYS', items)) do
  if not needed[item] then call('HDEL', items, item) end
end
call('HSET', about, 'epoch', ARGV[1])
return removed
"""

DROP = r"""
call('UNLINK', unpack(KEYS))
call('HSET', about, 'horizon', ARGV[1])
call('PEXPIRE', about, ARGV[2])
"""
