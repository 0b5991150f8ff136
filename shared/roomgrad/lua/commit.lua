-- One message, one commit: check everything, then write everything.
--
-- KEYS  every key that is read or written.
-- ARGV  1   PUBLISH, or SPUBLISH on a Cluster
--       2   what must hold: how many guards, then the guards
--       ..  what is written: how many operations, then the operations
--
-- A guard is   PENDING stream done group entry      the group has not acknowledged this entry; one at most
--              MEMORY                               the server's memory is not full; behind PENDING
--              SAME    hash field text              the field is as it was read (4,097+ bytes: its SHA-1)
--              ABSENT  hash field                   the field does not exist
--              ONCE    zset member                  no commit with this token was applied before
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
-- apply the commit now, or {"wrong", reason} if it can never be applied.
-- Scripts do not roll back, so whatever can fail is checked before the first write: types by TYPE or a
-- read, permissions by acl_check_cmd, numbers by their text. A SEND that is the first operation is the
-- first write instead, so that it may fail: only XADD knows for sure that a stream has IDs left.
-- While memory is full, a server lets a script write if its first write acknowledges or deletes: then
-- PENDING and MARK acknowledge first.
--
-- It runs for each message, so it makes few functions and tables, and reads ARGV in place: `at` is
-- where a guard or an operation begins, and `+ 0` makes a number of a text.

local call, try, may = redis.call, redis.pcall, redis.acl_check_cmd
local KEYS, ARGV = KEYS, ARGV
local MOST = 7000 -- arguments of a command: unpack takes less than 8,000
local MOST_OPERATIONS = 1000000
local LITERAL = 4096 -- bytes of the longest value that SAME has as it is

local publish = ARGV[1]
local time -- for delayed messages

local types = {}
local function misfit(name, kind, read) -- read: a command for this kind has read the key
  local found = types[name]
  if not found then
    found = read and kind or call('TYPE', name).ok
    if found == 'none' then found = kind end -- a new key has one type
    types[name] = found
  end
  if found ~= kind then return 'key ' .. name .. ' is a ' .. found .. ', expected a ' .. kind end
end

local function denied(command, name, ...)
  if not may(command, name, ...) then return 'no permission for ' .. command .. ' on ' .. name end
end

-- Returns the check of all operations but HSET, HDEL and a plain first SEND: most commits have no others.
local function make_check()
  -- A whole number as Redis reads it, with so few digits that no sum of them overflows.
  local function whole(text, digits)
    return text and (text == '0' or text:match('^-?[1-9]%d*$')) and #text <= digits
  end

  local room_in = {}
  local function unaddable(stream)
    if room_in[stream] then return end
    local wrong = misfit(stream, 'stream') or denied('XADD', stream, '*', 'm', '')
    if not wrong and used_up(stream) then
      wrong = 'stream ' .. stream .. ' has used up its IDs, since an entry has the highest: delete the key'
    end
    room_in[stream] = not wrong
    return wrong
  end

  local function not_an_entry(limit, fields)
    if limit ~= '' and not (whole(limit, 15) and limit + 0 >= 0) then
      return 'limit of a stream: ' .. tostring(limit)
    end
    if not (fields % 2 == 0 and fields > 0 and fields <= MOST) then
      return 'an entry of ' .. fields .. ' names and values, expected 2 to ' .. MOST
    end
  end

  local function uncountable(name, field)
    if not whole(call('HGET', name, field) or '0', 15) then
      return 'counter ' .. field .. ' of ' .. name .. ' is not a whole number of at most 15 digits'
    end
  end

  local function is_entry(text)
    return text and #text <= 41 and text:match('^%d+%-%d+$') ~= nil
  end

  local function are_entries(from, to)
    for number = from, to do
      if not is_entry(ARGV[number]) then return false end
    end
    return true
  end

  -- Returns what a command takes, whether it got that, and why it cannot be applied now.
  local function check_command(command, name, count, at)
    local one, two = ARGV[at], ARGV[at + 1]
    if command == 'HINCRBY' then -- a million of them do not overflow
      return 'a field and a number', count == 2 and whole(two, 12),
        misfit(name, 'hash') or denied(command, name, 'f', '1') or uncountable(name, one)
    elseif command == 'XADD' then
      return '*, names and values', count % 2 == 1 and one == '*', unaddable(name)
    elseif command == 'XACK' then
      return 'a group and entries', count > 1 and are_entries(at + 1, at + count - 1),
        misfit(name, 'stream') or denied(command, name, 'g', '0-1')
    elseif command == 'ZADD' then -- a member may be any text
      return 'a whole number and a member', count == 2 and whole(one, 15),
        misfit(name, 'zset') or denied(command, name, '0', 'm')
    elseif command == 'ZREM' then
      return 'a member', count == 1, misfit(name, 'zset') or denied(command, name, 'm')
    elseif command == 'ZREMRANGEBYRANK' then
      return 'two whole numbers', count == 2 and whole(one, 15) and whole(two, 15),
        misfit(name, 'zset') or denied(command, name, '0', '0')
    elseif command == 'XTRIM' then
      return 'MINID and an entry', count == 2 and one == 'MINID' and is_entry(two),
        misfit(name, 'stream') or denied(command, name, 'MINID', '0')
    elseif command == 'PEXPIRE' then
      return 'milliseconds', count == 1 and whole(one, 15),
        misfit(name, 'stream') or denied(command, name, '1')
    elseif command == 'PERSIST' or command == 'UNLINK' then
      return 'nothing', count == 0, misfit(name, 'string') or denied(command, name)
    end
  end

  -- Returns where the next operation begins, why this one can never be applied, and why not now.
  return function(command, name, at)
    local one, two, three = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    if command == 'SEND' then
      local fields = ARGV[at + 5] + 0
      return at + 6 + fields, not_an_entry(three, fields), unaddable(name) or denied(publish, one, '')
    elseif command == 'MARK' then
      local done = KEYS[one + 0]
      if not is_entry(three) then return at, 'MARK ' .. tostring(three) end
      return at + 5, nil, misfit(name, 'stream') or misfit(done, 'zset')
        or denied('XACK', name, two, three) or denied('ZADD', done, '0', three)
    elseif command == 'RETAIN' or command == 'RELEASE' then
      return at + 3, nil, misfit(name, 'hash') or denied('HINCRBY', name, 'f', '1')
        or denied('HDEL', name, 'f') or uncountable(name, one .. ':open')
    elseif command == 'LEDGER' then
      local counters = KEYS[one + 0]
      return at + 5, not whole(three, 15) and 'step ' .. tostring(three),
        misfit(name, 'zset') or misfit(counters, 'hash')
        or denied('ZADD', name, '0', 'm') or denied('ZREMRANGEBYRANK', name, '0', '0')
        or denied('HINCRBY', counters, 'f', '1')
        or uncountable(counters, 'applied') or uncountable(counters, 'distinct')
    elseif command == 'LATER' then
      local bodies, fields = KEYS[one + 0], ARGV[at + 8] + 0
      time = time or call('TIME')
      return at + 9 + fields, not whole(two, 15) and 'a delay of ' .. tostring(two) .. ' ms'
        or not_an_entry(ARGV[at + 7], fields),
        misfit(name, 'zset') or misfit(bodies, 'hash')
        or denied('ZADD', name, '0', 'm') or denied('HSET', bodies, 'f', '')
        or denied('HINCRBY', bodies, 'f', '1') or uncountable(bodies, 'count')
        or unaddable(KEYS[three + 0]) or denied(publish, ARGV[at + 5], '')
    end
    local count = one + 0
    if not (count >= 0 and count <= MOST) then return at, command .. ' with ' .. count .. ' arguments' end
    local takes, fits, wrong = check_command(command, name, count, at + 3)
    if not takes then return at, 'operation ' .. command end
    if command == 'HINCRBY' and not fits then
      return at, 'counter ' .. tostring(two) .. ' cannot grow by ' .. tostring(three)
        .. ', expected a whole number of at most 12 digits'
    end
    local got = not fits and tostring(two) .. ' ' .. tostring(three)
    return at + 3 + count, got and command .. ' takes ' .. takes .. ', got ' .. got, wrong
  end
end

-- 1. Only read.

if publish ~= 'PUBLISH' and publish ~= 'SPUBLISH' then
  return {'wrong', 'expected PUBLISH or SPUBLISH, got ' .. tostring(publish)}
end

-- While the slot moves to another node, a key that does not exist cannot be read: this script would
-- end half done at a key that it has emptied itself. A key that never exists tells this in advance.
local tag = publish == 'SPUBLISH' and KEYS[1] and KEYS[1]:match('^{[^}]+}')
local here = tag and try('EXISTS', tag .. ':here')
if type(here) == 'table' and here.err then
  if not here.err:match('non local key') then return {'refused', here.err} end
  return redis.error_reply('TRYAGAIN the slot of ' .. tag .. ' is moving to another node')
end

local at = 3
local stream, done, group, entry, since -- of the message that this commit acknowledges
for number = 1, ARGV[2] + 0 do
  local guard = ARGV[at]
  if guard == 'PENDING' then
    if stream then return {'wrong', 'a second PENDING'} end
    stream, done = KEYS[ARGV[at + 1] + 0], KEYS[ARGV[at + 2] + 0]
    group, entry = ARGV[at + 3], ARGV[at + 4]
    since = entry:match('^(%d+)%-%d+$')
    at = at + 5
    if not since then return {'wrong', 'PENDING ' .. entry} end
    local owed = try('XPENDING', stream, group, entry, entry, 1)
    if owed.err and not owed.err:match('^NOGROUP') then
      return {'refused', misfit(stream, 'stream') or owed.err}
    end
    if not owed[1] then return {'gone'} end
    types[stream] = 'stream'
    local mark = try('ZSCORE', done, entry)
    if mark and mark.err then return {'refused', misfit(done, 'zset') or mark.err} end
    local wrong = misfit(done, 'zset', true)
      or denied('XACK', stream, group, entry) or denied('ZADD', done, '0', entry)
    if wrong then return {'refused', wrong} end
    if mark then
      call('XACK', stream, group, entry)
      return {'gone'}
    end
  elseif guard == 'SAME' then
    local hash = KEYS[ARGV[at + 1] + 0]
    local value = try('HGET', hash, ARGV[at + 2])
    if value and value.err then return {'refused', misfit(hash, 'hash') or value.err} end
    if value and #value > LITERAL then value = redis.sha1hex(value) end
    if value ~= ARGV[at + 3] then return {'stale', number} end
    types[hash] = 'hash' -- which saves TYPE
    at = at + 4
  elseif guard == 'ABSENT' then
    local hash = KEYS[ARGV[at + 1] + 0]
    local wrong = misfit(hash, 'hash')
    if wrong then return {'refused', wrong} end
    if call('HEXISTS', hash, ARGV[at + 2]) == 1 then return {'stale', number} end
    at = at + 3
  elseif guard == 'ONCE' then
    local once = KEYS[ARGV[at + 1] + 0]
    local wrong = misfit(once, 'zset')
    if wrong then return {'refused', wrong} end
    if call('ZSCORE', once, ARGV[at + 2]) then return {'stale', number} end
    at = at + 3
  elseif guard == 'STORED' then
    if call('TYPE', KEYS[ARGV[at + 1] + 0]).ok == 'none' then return {'stale', number} end
    at = at + 2
  elseif guard == 'MEMORY' then
    if not stream then return {'wrong', 'MEMORY without PENDING'} end
    -- changes nothing, as the entry has no mark, and is refused like any command that takes memory
    local probe = try('ZADD', done, 'XX', '0', entry)
    if type(probe) == 'table' and probe.err then
      return probe.err:match('^OOM') and {'full', probe.err} or probe
    end
    at = at + 1
  else
    return {'wrong', 'guard ' .. tostring(guard)}
  end
end

local count, first = ARGV[at] + 0, at + 1
if count > MOST_OPERATIONS then
  return {'wrong', count .. ' writes, expected at most ' .. MOST_OPERATIONS}
end
local check
at = first
for number = 1, count do
  local command, name = ARGV[at], KEYS[ARGV[at + 1] + 0]
  local wrong, never
  local fields = number == 1 and command == 'SEND' and ARGV[at + 4] == '' and ARGV[at + 5] + 0 or 0
  if fields > 0 and fields % 2 == 0 and fields <= MOST then -- XADD is the first write
    wrong = misfit(name, 'stream', true) or denied(publish, ARGV[at + 2], '')
    at = at + 6 + fields
  elseif command == 'HSET' or command == 'HDEL' then
    local arguments = ARGV[at + 2] + 0
    wrong = misfit(name, 'hash') or denied(command, name, 'f', '')
    if not (arguments > 0 and arguments <= MOST and arguments % (command == 'HSET' and 2 or 1) == 0) then
      never = command .. ' with ' .. arguments .. ' arguments'
    end
    at = at + 3 + arguments
  else
    check = check or make_check()
    at, never, wrong = check(command, name, at)
  end
  if never then return {'wrong', never} end
  if wrong then return {'refused', wrong} end
end
if at ~= #ARGV + 1 then return {'wrong', #ARGV .. ' arguments, expected ' .. at - 1} end

-- 2. Only write.

local function add(how, at)
  local name, limit, last = KEYS[ARGV[at + 1] + 0], ARGV[at + 4], at + 5 + ARGV[at + 5]
  if limit == '' then return how('XADD', name, '*', unpack(ARGV, at + 6, last)) end
  return how('XADD', name, 'MAXLEN', '~', limit, '*', unpack(ARGV, at + 6, last))
end

local added
if ARGV[first] == 'SEND' then
  added = add(try, first)
  if added.err then -- nothing is written yet
    local name = KEYS[ARGV[first + 1] + 0]
    types[name], check = nil, check or make_check()
    local _, _, wrong = check('SEND', name, first)
    wrong = wrong or added.err:match('exhausted') and name .. ': ' .. added.err
    if wrong then return {'refused', wrong} end
    if not (entry and added.err:match('^OOM')) then return added end
    added = nil
  end
end
if entry then
  call('XACK', stream, group, entry)
  call('ZADD', done, since, entry)
end
local answer = {'ok'}
at = first
for _ = 1, count do
  local command, name = ARGV[at], KEYS[ARGV[at + 1] + 0]
  if command == 'SEND' then
    local id = added or add(call, at)
    added = nil
    call(publish, ARGV[at + 2], ARGV[at + 3] .. id .. '"}')
    answer[#answer + 1] = id
    at = at + 6 + ARGV[at + 5]
  elseif command == 'LATER' then
    local bodies, wait, last = KEYS[ARGV[at + 2] + 0], ARGV[at + 3], at + 8 + ARGV[at + 8]
    -- stream, channel, header, limit, then the fields
    local body = {KEYS[ARGV[at + 4] + 0], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]}
    for field = at + 9, last do body[#body + 1] = ARGV[field] end
    -- numbered: names are unique, and messages that are due in the same ms keep their order
    local number = string.format('%016d', call('HINCRBY', bodies, 'count', 1))
    call('ZADD', name, time[1] * 1000 + math.ceil(time[2] / 1000) + wait, number)
    call('HSET', bodies, number, cmsgpack.pack(body))
    at = last + 1
  elseif command == 'MARK' then
    local entry = ARGV[at + 4]
    try('XACK', name, ARGV[at + 3], entry)
    call('ZADD', KEYS[ARGV[at + 2] + 0], entry:match('^%d+'), entry)
    at = at + 5
  elseif command == 'RETAIN' then
    call('HINCRBY', name, ARGV[at + 2] .. ':open', 1)
    at = at + 3
  elseif command == 'RELEASE' then
    local version = ARGV[at + 2]
    if call('HINCRBY', name, version .. ':open', -1) <= 0 then
      call('HDEL', name, version .. ':open', version)
    end
    at = at + 3
  elseif command == 'LEDGER' then
    local counters = KEYS[ARGV[at + 2] + 0]
    call('HINCRBY', counters, 'applied', 1)
    if call('ZADD', name, 'NX', ARGV[at + 4], ARGV[at + 3]) == 1 then
      call('HINCRBY', counters, 'distinct', 1)
      call('ZREMRANGEBYRANK', name, 0, -100001)
    end
    at = at + 5
  else
    local last = at + 2 + ARGV[at + 2]
    local how = command == 'XACK' and try or call -- an entry id may be too large
    local result = how(command, name, unpack(ARGV, at + 3, last))
    if command == 'XADD' then answer[#answer + 1] = result end
    at = last + 1
  end
end
return answer
