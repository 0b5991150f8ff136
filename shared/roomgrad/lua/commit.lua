-- One message, one commit: check everything, then write everything.
--
-- KEYS  every key that is read or written.
-- ARGV  1   PUBLISH, or SPUBLISH on a Cluster
--       2   what must hold: how many guards, then the guards
--       ..  what is written: how many operations, then the operations
--
-- A guard is   PENDING stream done group entry      the group has not acknowledged this entry; one at most
--              MEMORY                               the server's memory is not full; behind PENDING
--              SAME    hash field text              the field is as it was read (40+ bytes: its SHA-1)
--              ABSENT  hash field                   the field does not exist
--              ONCE    zset member               no commit with this token was applied before
--              STORED  key                          the key exists, like a piece that has not expired
-- An operation is  COMMAND key count argument...    one of those described below, or of these:
--              SEND   stream channel header limit count field...   an entry, and its notification
--              LATER  dues bodies ms, then as SEND: the same in so many ms, delivered by `delayed.lua`
--              MARK   stream done group entry       an entry that was skipped
--              RETAIN, RELEASE  kept version        one open root more, or less, needs these weights
--              LEDGER ledger counters root step
--
-- Returns {"ok", ids of added entries...}, {"gone"} if another replica has committed this entry, {"stale", number}
-- if guard `number` fails, {"full", reason} if MEMORY does, {"refused", reason} if the server cannot
-- apply the commit now, or {"wrong", reason} if it can never be applied. While memory is full, a server
-- lets a script write if its first write acknowledges or deletes: PENDING and MARK acknowledge first.
-- Scripts do not roll back, so whatever can fail is
-- checked before the first write: types by TYPE, permissions by acl_check_cmd, numbers by their text.

local MOST = 7000 -- arguments of a command: unpack takes less than 8,000
local MOST_OPERATIONS = 1000000

local publish = ARGV[1]
local at = 2
local function take() local value = ARGV[at]; at = at + 1; return value end
local function key() return KEYS[tonumber(take())] end

local commands
local function described(command) -- its type of key, its number of arguments, and some for a check
  if not commands then -- made here, since an ordinary commit needs none of them
    local function none(count) return count == 0 end
    local function one(count) return count == 1 end
    local function two(count) return count == 2 end
    commands = {
      HSET = {kind = 'hash', takes = function(count) return count > 0 and count % 2 == 0 end, try = {'f', ''}},
      HDEL = {kind = 'hash', takes = function(count) return count > 0 end, try = {'f'}},
      HINCRBY = {kind = 'hash', takes = two, try = {'f', '1'}},
      XADD = {kind = 'stream', takes = function(count) return count % 2 == 1 end, try = {'*', 'm', ''}},
      XACK = {kind = 'stream', takes = function(count) return count > 1 end, try = {'g', '0-1'}},
      ZADD = {kind = 'zset', takes = two, try = {'0', 'm'}},
      ZREMRANGEBYRANK = {kind = 'zset', takes = two, try = {'0', '0'}},
      XTRIM = {kind = 'stream', takes = two, try = {'MINID', '0'}},
      PEXPIRE = {kind = 'stream', takes = one, try = {'1'}},
      PERSIST = {kind = 'string', takes = none, try = {}},
      UNLINK = {kind = 'string', takes = none, try = {}},
    }
  end
  return commands[command]
end

local types = {}
local function fits(name, kind)
  local found = types[name]
  if not found then
    found = redis.call('TYPE', name).ok
    types[name] = found ~= 'none' and found or kind -- a new key has one type
  end
  if found ~= kind and found ~= 'none' then
    return 'key ' .. name .. ' is a ' .. found .. ', expected a ' .. kind
  end
end

local tried = {}
local function allowed(command, name, ...)
  local what = command .. ' ' .. name
  if tried[what] == nil then tried[what] = redis.acl_check_cmd(command, name, ...) end
  if not tried[what] then return 'no permission for ' .. command .. ' on ' .. name end
end

-- A whole number as Redis reads it, with so few digits that no sum of them overflows.
local function whole(text, digits)
  return text and (text == '0' or text:match('^-?[1-9]%d*$')) and #text <= digits
end

local function countable(name, field)
  if not whole(redis.call('HGET', name, field) or '0', 15) then
    return 'counter ' .. field .. ' of ' .. name .. ' is not a whole number of at most 15 digits'
  end
end

local full = {}
local function room_in(stream)
  if full[stream] == nil then full[stream] = used_up(stream) end
  if full[stream] then
    return 'stream ' .. stream .. ' has used up its IDs, since an entry has the highest: delete the key'
  end
end

local function addable(stream)
  return fits(stream, 'stream') or allowed('XADD', stream, '*', 'm', '') or room_in(stream)
end

local function sendable(stream, channel)
  return addable(stream) or allowed(publish, channel, '')
end

-- Skips the header, the limit and the fields of an entry; returns what is wrong with them.
local function misfit()
  take()
  local limit, fields = take(), take()
  if limit ~= '' and not (whole(limit, 15) and tonumber(limit) >= 0) then
    return 'limit of a stream: ' .. tostring(limit)
  end
  if not (whole(fields, 4) and tonumber(fields) % 2 == 0 and tonumber(fields) > 0
    and tonumber(fields) <= MOST) then
    return 'an entry of ' .. tostring(fields) .. ' names and values, expected 2 to ' .. MOST
  end
  at = at + tonumber(fields)
end

local function acknowledgeable(stream, done, group, entry)
  return fits(stream, 'stream') or fits(done, 'zset')
    or allowed('XACK', stream, group, entry) or allowed('ZADD', done, '0', entry)
end

local function is_entry(text)
  return text and #text <= 41 and text:match('^%d+%-%d+$') ~= nil
end

-- 1. Only read.

if publish ~= 'PUBLISH' and publish ~= 'SPUBLISH' then
  return {'wrong', 'expected PUBLISH or SPUBLISH, got ' .. tostring(publish)}
end

-- While the slot moves to another node, a key that does not exist cannot be read: this script would
-- end half done at a key that it has emptied itself. A key that never exists tells this in advance.
local tag = publish == 'SPUBLISH' and KEYS[1] and KEYS[1]:match('^{[^}]+}')
local here = tag and redis.pcall('EXISTS', tag .. ':here')
if type(here) == 'table' and here.err then
  if not here.err:match('non local key') then return {'refused', here.err} end
  return redis.error_reply('TRYAGAIN the slot of ' .. tag .. ' is moving to another node')
end

local pending -- the entry that this commit acknowledges
for number = 1, tonumber(take()) do
  local guard = take()
  if guard == 'PENDING' then
    local stream, done, group, entry = key(), key(), take(), take()
    if pending or not is_entry(entry) then return {'wrong', 'PENDING ' .. tostring(entry)} end
    local wrong = acknowledgeable(stream, done, group, entry)
    if wrong then return {'refused', wrong} end
    if redis.call('ZSCORE', done, entry) then
      redis.pcall('XACK', stream, group, entry)
      return {'gone'}
    end
    pending = {stream, done, group, entry}
  elseif guard == 'MEMORY' then
    if not pending then return {'wrong', 'MEMORY without PENDING'} end
    -- changes nothing, as the entry has no mark, and is refused like any command that takes memory
    local probe = redis.pcall('ZADD', pending[2], 'XX', '0', pending[4])
    if type(probe) == 'table' and probe.err then
      return probe.err:match('^OOM') and {'full', probe.err} or probe
    end
  elseif guard == 'ONCE' then
    local once = key()
    local wrong = fits(once, 'zset')
    if wrong then return {'refused', wrong} end
    if redis.call('ZSCORE', once, take()) then return {'stale', number} end
  elseif guard == 'STORED' then
    if redis.call('TYPE', key()).ok == 'none' then return {'stale', number} end
  elseif guard == 'SAME' or guard == 'ABSENT' then
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
  else
    return {'wrong', 'guard ' .. tostring(guard)}
  end
end

local first_write = at
local count = tonumber(take())
if count > MOST_OPERATIONS then
  return {'wrong', count .. ' writes, expected at most ' .. MOST_OPERATIONS}
end
local time -- for delayed messages
for _ = 1, count do
  local command = take()
  local wrong, never
  if command == 'SEND' then
    wrong = sendable(key(), take())
    never = misfit()
  elseif command == 'LATER' then
    local dues, bodies, wait, stream, channel = key(), key(), take(), key(), take()
    time = time or redis.call('TIME')
    never = not whole(wait, 15) and 'a delay of ' .. tostring(wait) .. ' ms' or nil
    wrong = fits(dues, 'zset') or fits(bodies, 'hash')
      or allowed('ZADD', dues, '0', 'm') or allowed('HSET', bodies, 'f', '')
      or allowed('HINCRBY', bodies, 'f', '1') or countable(bodies, 'count')
      or sendable(stream, channel)
    never = misfit() or never
  elseif command == 'MARK' then
    local stream, done, group, entry = key(), key(), take(), take()
    never = not is_entry(entry) and 'MARK ' .. tostring(entry) or nil
    wrong = not never and acknowledgeable(stream, done, group, entry)
  elseif command == 'RETAIN' or command == 'RELEASE' then
    local kept, version = key(), take()
    wrong = fits(kept, 'hash') or allowed('HINCRBY', kept, 'f', '1') or allowed('HDEL', kept, 'f')
      or countable(kept, version .. ':open')
  elseif command == 'LEDGER' then
    local ledger, counters, _, step = key(), key(), take(), take()
    never = not whole(step, 15) and 'step ' .. tostring(step) or nil
    wrong = fits(ledger, 'zset') or fits(counters, 'hash')
      or allowed('ZADD', ledger, '0', 'm') or allowed('ZREMRANGEBYRANK', ledger, '0', '0')
      or allowed('HINCRBY', counters, 'f', '1')
      or countable(counters, 'applied') or countable(counters, 'distinct')
  else
    local what = described(command)
    if not what then return {'wrong', 'operation ' .. tostring(command)} end
    local name, arguments = key(), tonumber(take())
    if arguments < 0 or arguments > MOST or not what.takes(arguments) then
      return {'wrong', command .. ' with ' .. arguments .. ' arguments'}
    end
    wrong = fits(name, what.kind) or allowed(command, name, unpack(what.try))
    if command == 'HINCRBY' then
      wrong = wrong or countable(name, ARGV[at])
      if not whole(ARGV[at + 1], 12) then -- a million of them do not overflow
        never = 'counter ' .. ARGV[at] .. ' cannot grow by ' .. tostring(ARGV[at + 1])
          .. ', expected a whole number of at most 12 digits'
      end
    elseif command == 'ZADD' or command == 'ZREMRANGEBYRANK' then
      local last = command == 'ZADD' and at or at + 1 -- a member may be any text
      for number = at, last do
        if not whole(ARGV[number], 15) then
          never = command .. ' with ' .. tostring(ARGV[number]) .. ', expected a whole number'
        end
      end
    elseif command == 'XACK' then
      for number = at + 1, at + arguments - 1 do
        if not is_entry(ARGV[number]) then never = 'XACK of ' .. tostring(ARGV[number]) end
      end
    elseif command == 'PEXPIRE' and not whole(ARGV[at], 15) then
      never = 'PEXPIRE in ' .. ARGV[at] .. ' ms, expected a whole number'
    elseif command == 'XADD' then
      wrong = wrong or room_in(name)
      never = ARGV[at] ~= '*' and 'XADD with an ID' or nil
    elseif command == 'XTRIM' and not (ARGV[at] == 'MINID' and is_entry(ARGV[at + 1])) then
      never = 'XTRIM to ' .. tostring(ARGV[at + 1]) .. ', expected MINID and an entry ID'
    end
    at = at + arguments
  end
  if never then return {'wrong', never} end
  if wrong then return {'refused', wrong} end
end
if at ~= #ARGV + 1 then return {'wrong', #ARGV .. ' arguments, expected ' .. at - 1} end

-- 2. Only write.

if pending then -- XACK tells whether the entry was pending; nothing is written until here
  if redis.call('XACK', pending[1], pending[3], pending[4]) == 0 then return {'gone'} end
  redis.call('ZADD', pending[2], pending[4]:match('^%d+'), pending[4])
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
    redis.call(publish, channel, head .. entry .. '"}')
    answer[#answer + 1] = entry
    at = at + fields
  elseif command == 'LATER' then
    local dues, bodies, wait = key(), key(), take()
    local body = {key(), take(), take(), take()} -- stream, channel, header, limit, then the fields
    for _ = 1, tonumber(take()) do body[#body + 1] = take() end
    -- numbered: names are unique, and messages that are due in the same ms keep their order
    local name = string.format('%016d', redis.call('HINCRBY', bodies, 'count', 1))
    redis.call('ZADD', dues, time[1] * 1000 + math.ceil(time[2] / 1000) + wait, name)
    redis.call('HSET', bodies, name, cmsgpack.pack(body))
  elseif command == 'MARK' then
    local stream, done, group, entry = key(), key(), take(), take()
    redis.pcall('XACK', stream, group, entry)
    redis.call('ZADD', done, entry:match('^%d+'), entry)
  elseif command == 'RETAIN' then
    local kept, version = key(), take()
    redis.call('HINCRBY', kept, version .. ':open', 1)
  elseif command == 'RELEASE' then
    local kept, version = key(), take()
    if redis.call('HINCRBY', kept, version .. ':open', -1) <= 0 then
      redis.call('HDEL', kept, version .. ':open', version)
    end
  elseif command == 'LEDGER' then
    local ledger, counters, root, step = key(), key(), take(), take()
    redis.call('HINCRBY', counters, 'applied', 1)
    if redis.call('ZADD', ledger, 'NX', step, root) == 1 then
      redis.call('HINCRBY', counters, 'distinct', 1)
      redis.call('ZREMRANGEBYRANK', ledger, 0, -100001)
    end
  else
    local name, arguments = key(), tonumber(take())
    local call = command == 'XACK' and redis.pcall or redis.call -- an entry id may be too large
    local result = call(command, name, unpack(ARGV, at, at + arguments - 1))
    if command == 'XADD' then answer[#answer + 1] = result end
    at = at + arguments
  end
end
return answer
