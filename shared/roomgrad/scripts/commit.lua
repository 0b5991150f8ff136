-- One message, one commit: check everything, then write everything.
--
-- KEYS  every key that is touched.
-- ARGV  1   PUBLISH, or SPUBLISH on a Cluster
--       2   what must hold: how many guards, then the guards
--       ..  what is written: how many operations, then the operations
--
-- A guard is   PENDING stream done group entry      the group still owes this entry
--              SAME    hash field text              the field is as it was read (40+ bytes: its SHA-1)
--              ABSENT  hash field                   the field is not there
--              ONCE    zset member               what this commit writes does not stand already
--              SHAPE   hash                         a hash, or nothing yet
-- An operation is  COMMAND key count argument...    and those below that are no Redis command:
--              SEND   stream channel header limit count field...   an entry, and its ring
--              LATER  dues bodies ms, then as SEND: the same in so many ms, by `later.lua`
--
-- Returns {"ok", entry ids...}, {"gone"} when somebody else committed this entry, {"stale", number}
-- when guard `number` does not hold, or {"refused", reason}. Scripts do not roll back, so whatever
-- can fail is tried before the first write: types by TYPE, permissions by acl_check_cmd.

local ring = ARGV[1]
local at = 2
local function take() local value = ARGV[at]; at = at + 1; return value end
local function key() return KEYS[tonumber(take())] end

local holds = {
  hash = {HSET = true, HDEL = true, HINCRBY = true},
  zset = {ZADD = true, ZREMRANGEBYRANK = true},
  stream = {XADD = true},
}

local types = {}
local function fits(name, kind)
  local found = types[name]
  if not found then
    found = redis.call('TYPE', name).ok
    types[name] = found
  end
  if found ~= kind and found ~= 'none' then
    return 'key ' .. name .. ' is a ' .. found .. ', expected a ' .. kind
  end
end

local function allowed(...)
  if not redis.acl_check_cmd(...) then
    return 'no permission for ' .. select(1, ...) .. ' on ' .. select(2, ...)
  end
end

local function countable(name, field)
  local value = redis.call('HGET', name, field) or '0'
  if not (value:match('^-?%d+$') and #value < 16) then
    return 'counter ' .. field .. ' of ' .. name .. ' is no whole number'
  end
end

-- 1. only read

local owed -- the entry that this commit answers; there is one at most
for number = 1, tonumber(take()) do
  local guard = take()
  if guard == 'PENDING' then
    local stream, done, group, entry = key(), key(), take(), take()
    local wrong = fits(stream, 'stream') or fits(done, 'zset')
      or allowed('XACK', stream, group, entry) or allowed('ZADD', done, '0', entry)
    if wrong then return {'refused', wrong} end
    if redis.call('ZSCORE', done, entry) then
      redis.pcall('XACK', stream, group, entry)
      return {'gone'}
    end
    owed = {stream, done, group, entry}
  elseif guard == 'ONCE' then
    local once = key()
    local wrong = fits(once, 'zset')
    if wrong then return {'refused', wrong} end
    if redis.call('ZSCORE', once, take()) then return {'stale', number} end
  else
    local hash = key()
    local wrong = fits(hash, 'hash')
    if wrong then return {'refused', wrong} end
    if guard == 'SAME' then
      local value, expected = redis.call('HGET', hash, take()), take()
      if value and #value > 40 then value = redis.sha1hex(value) end
      if value ~= expected then return {'stale', number} end
    elseif redis.call('HEXISTS', hash, take()) == 1 then
      return {'stale', number}
    end
  end
end

local function sendable(stream, channel)
  return fits(stream, 'stream') or allowed('XADD', stream, '*', 'm', '')
    or allowed(ring, channel, '')
end

local first_write = at
local count = tonumber(take())
for _ = 1, count do
  local command = take()
  if command == 'SEND' then
    local wrong = sendable(key(), take())
    if wrong then return {'refused', wrong} end
    at = at + 2
    at = at + 1 + tonumber(ARGV[at])
  elseif command == 'LATER' then
    local dues, bodies = key(), key()
    take()
    local wrong = fits(dues, 'zset') or fits(bodies, 'hash')
      or allowed('ZADD', dues, '0', 'm') or allowed('HSET', bodies, 'f', '')
      or allowed('HINCRBY', bodies, 'f', '1') or countable(bodies, 'count')
      or sendable(key(), take())
    if wrong then return {'refused', wrong} end
    at = at + 2
    at = at + 1 + tonumber(ARGV[at])
  elseif command == 'MARK' then
    local stream, done, group, entry = key(), key(), take(), take()
    local wrong = fits(stream, 'stream') or fits(done, 'zset')
      or allowed('XACK', stream, group, entry) or allowed('ZADD', done, '0', entry)
    if wrong then return {'refused', wrong} end
  elseif command == 'RETAIN' or command == 'RELEASE' then
    local kept, version = key(), take()
    local wrong = fits(kept, 'hash') or allowed('HINCRBY', kept, 'f', '1') or allowed('HDEL', kept, 'f')
      or countable(kept, version .. ':open')
    if wrong then return {'refused', wrong} end
  elseif command == 'STEP' then
    local model, kept = key(), key()
    at = at + 4
    local wrong = fits(model, 'hash') or fits(kept, 'hash')
      or allowed('HGET', model, 'f') or allowed('HSET', model, 'f', '')
      or allowed('HEXISTS', kept, 'f') or allowed('HSET', kept, 'f', '')
    if wrong then return {'refused', wrong} end
  elseif command == 'LEDGER' then
    local ledger, counters = key(), key()
    at = at + 2
    local wrong = fits(ledger, 'zset') or fits(counters, 'hash')
      or allowed('ZADD', ledger, '0', 'm') or allowed('ZREMRANGEBYRANK', ledger, '0', '0')
      or allowed('HINCRBY', counters, 'f', '1')
      or countable(counters, 'applied') or countable(counters, 'distinct')
    if wrong then return {'refused', wrong} end
  else
    local name, arguments = key(), tonumber(take())
    local kind = (holds.hash[command] and 'hash') or (holds.zset[command] and 'zset') or 'stream'
    local wrong = fits(name, kind) or allowed(command, name, unpack(ARGV, at, at + arguments - 1))
    if command == 'HINCRBY' then wrong = wrong or countable(name, ARGV[at]) end
    if wrong then return {'refused', wrong} end
    at = at + arguments
  end
end

-- 2. only write

if owed then -- XACK tells whether the entry was still owed: until here nothing is written
  if redis.call('XACK', owed[1], owed[3], owed[4]) == 0 then return {'gone'} end
  redis.call('ZADD', owed[2], owed[4]:match('^%d+'), owed[4])
end
at = first_write + 1
local answer = {'ok'}
for _ = 1, count do
  local command = take()
  if command == 'SEND' then
    local stream, channel, head, limit = key(), take(), take(), take()
    local fields = tonumber(take())
    local entry
    if limit == '' then
      entry = redis.call('XADD', stream, '*', unpack(ARGV, at, at + fields - 1))
    else
      entry = redis.call('XADD', stream, 'MAXLEN', '~', limit, '*', unpack(ARGV, at, at + fields - 1))
    end
    redis.call(ring, channel, head .. entry .. '"}')
    answer[#answer + 1] = entry
    at = at + fields
  elseif command == 'LATER' then
    local dues, bodies, wait = key(), key(), take()
    local body = {key(), take(), take(), take()} -- stream, channel, header, limit, then the fields
    for _ = 1, tonumber(take()) do body[#body + 1] = take() end
    -- counted: no two are one, and what is due in the same ms goes out in the order of staging
    local name = string.format('%016d', redis.call('HINCRBY', bodies, 'count', 1))
    local time = redis.call('TIME')
    redis.call('ZADD', dues, time[1] * 1000 + math.ceil(time[2] / 1000) + wait, name)
    redis.call('HSET', bodies, name, cmsgpack.pack(body))
  elseif command == 'MARK' then
    local stream, done, group, entry = key(), key(), take(), take()
    redis.call('ZADD', done, entry:match('^%d+'), entry)
    redis.pcall('XACK', stream, group, entry)
  elseif command == 'RETAIN' then
    local kept, version = key(), take()
    redis.call('HINCRBY', kept, version .. ':open', 1)
  elseif command == 'RELEASE' then
    local kept, version = key(), take()
    if redis.call('HINCRBY', kept, version .. ':open', -1) <= 0 then
      redis.call('HDEL', kept, version .. ':open', version)
    end
  elseif command == 'STEP' then
    local model, kept = key(), key()
    local now = redis.call('HGET', model, 'version')
    if now and redis.call('HEXISTS', kept, now .. ':open') == 1 then
      redis.call('HSET', kept, now, redis.call('HGET', model, 'weights'))
    end
    redis.call('HSET', model, 'version', take(), 'step', take(), 'weights', take(), 'optimizer', take())
  elseif command == 'LEDGER' then
    local ledger, counters, root, step = key(), key(), take(), take()
    redis.call('HINCRBY', counters, 'applied', 1)
    if redis.call('ZADD', ledger, 'NX', step, root) == 1 then
      redis.call('HINCRBY', counters, 'distinct', 1)
      redis.call('ZREMRANGEBYRANK', ledger, 0, -100001)
    end
  else
    local name, arguments = key(), tonumber(take())
    redis.call(command, name, unpack(ARGV, at, at + arguments - 1))
    at = at + arguments
  end
end
return answer
