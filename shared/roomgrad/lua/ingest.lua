-- Adds a message that a user published by hand to its stream, once by its ID.
--
-- KEYS  1 the IDs added so far, 2 the stream, 3 the run's hash
-- ARGV  1 room, TYPE and ID, 2 PUBLISH or SPUBLISH, 3 channel, 4 header, 5 MAXLEN or "",
--       6 the number of the database, or 0 if the message names it, then the fields
-- Returns the entry id, nothing if it was added before or is for another database, or an error if it cannot be added: whatever
-- can fail is checked before the first write. The newest 10,000 IDs are remembered.

-- Components check the backlog before they open roots; messages by hand are checked here. The
-- gateway limits the backlog of its own clients.
local MOST_WAITING = 10000
local function behind(stream)
  if redis.call('EXISTS', stream) == 0 then return end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #info, 2 do group[info[i]] = info[i + 1] end
    local waiting = (group.lag or 0) + group.pending
    if waiting >= MOST_WAITING and not group.name:find('@gateway', 1, true) then
      return waiting .. ' messages wait for ' .. group.name .. ' in ' .. stream .. ', expected fewer than '
        .. MOST_WAITING .. ': start more of it, and publish again later'
    end
  end
end

local function obstacle(taken, stream)
  local kinds = {redis.call('TYPE', taken).ok, redis.call('TYPE', stream).ok}
  if kinds[1] ~= 'zset' and kinds[1] ~= 'none' then return 'key ' .. taken .. ' is a ' .. kinds[1] end
  if kinds[2] ~= 'stream' and kinds[2] ~= 'none' then return 'key ' .. stream .. ' is a ' .. kinds[2] end
  if not (redis.acl_check_cmd('ZADD', taken, '0', 'm')
    and redis.acl_check_cmd('ZREMRANGEBYRANK', taken, '0', '0')
    and redis.acl_check_cmd('XADD', stream, '*', 'm', '')
    and redis.acl_check_cmd(ARGV[2], ARGV[3], '')) then
    return 'no permission to write ' .. taken .. ' and ' .. stream .. ', and to publish'
  end
  if #ARGV > 7000 then return 'the message has ' .. #ARGV .. ' fields' end
  if used_up(stream) then return 'stream ' .. stream .. ' has used up its IDs: delete the key' end
  return behind(stream)
end

-- Channels ignore databases: of runs of one name, the one in the lowest database adds the message.
local database = tonumber(ARGV[6])
for lower = 0, database - 1 do
  redis.call('SELECT', lower)
  local found = redis.call('EXISTS', KEYS[3]) == 1
  redis.call('SELECT', database)
  if found then return false end
end

local wrong = obstacle(KEYS[1], KEYS[2])
if wrong then return redis.error_reply('ERR ' .. wrong) end

local now = redis.call('TIME')
if redis.call('ZADD', KEYS[1], 'NX', now[1], ARGV[1]) == 0 then return false end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -10001)
local entry
if ARGV[5] == '' then
  entry = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 7))
else
  entry = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', unpack(ARGV, 7))
end
redis.call(ARGV[2], ARGV[3], ARGV[4] .. entry .. '"}')
return entry
