-- Puts the message of a dead letter back into its stream, for the group that gave it up only.
--
-- KEYS  1 the dead letters, 2 the stream, then what each other group of the stream has done
-- ARGV  1 the dead letter, 2 the group that gave it up, 3 PUBLISH or SPUBLISH, 4 channel, 5 header
-- Returns {"ok", entry id}, {"gone"} if the dead letter no longer exists, or {"refused", reason}.
--
-- The other groups had the message when it first came: the new entry is marked as done for them, and
-- their commits find the mark. Clients of the gateway read its field `for`. First only reads, then
-- only writes: scripts do not roll back. XADD is the first write, since a full server refuses it.

local function fits(name, kind)
  local found = redis.call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then
    return 'key ' .. name .. ' is a ' .. found .. ', expected a ' .. kind
  end
end

local function allowed(...)
  if not redis.acl_check_cmd(...) then
    return 'no permission for ' .. select(1, ...) .. ' on ' .. select(2, ...)
  end
end

local function reads(stream, group)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    for i = 1, #info, 2 do
      if info[i] == 'name' and info[i + 1] == group then return true end
    end
  end
end

local dead, stream = KEYS[1], KEYS[2]
local letter, group, publish, channel, header = unpack(ARGV)

-- 1. Only read.

local found = redis.call('XRANGE', dead, letter, letter)[1]
if not found then return {'gone'} end
local fields = found[2]
if fields[1] ~= 'history' or #fields < 4 then return {'refused', 'it holds no message'} end
if redis.call('EXISTS', stream) == 0 then
  return {'refused', 'there is no stream ' .. stream}
end
local wrong = fits(stream, 'stream') or allowed('XADD', stream, '*', 'm', '')
  or allowed('XDEL', dead, letter) or allowed(publish, channel, '')
for i = 3, #KEYS do
  wrong = wrong or fits(KEYS[i], 'zset') or allowed('ZADD', KEYS[i], '0', letter)
end
if wrong then return {'refused', wrong} end
if not reads(stream, group) then
  return {'refused', group .. ' has no group in ' .. stream .. ', so no component would handle it'}
end

-- 2. Only write.

local first = fields[3] == 'for' and 5 or 3 -- it was requeued before
local entry = redis.call('XADD', stream, '*', 'for', group, unpack(fields, first))
redis.call('XDEL', dead, letter)
for i = 3, #KEYS do redis.call('ZADD', KEYS[i], entry:match('^%d+'), entry) end
redis.call(publish, channel, header .. entry .. '"}')
return {'ok', entry}
