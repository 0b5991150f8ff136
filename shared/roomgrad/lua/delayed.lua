-- Delivers the delayed messages that are due.
--
-- KEYS  1 the due times, 2 the messages, then every stream that the component may write
-- ARGV  1 PUBLISH or SPUBLISH, 2 how many messages to try
-- Returns {ms until the next message or -1, why the first message that cannot be sent waits or ""}.
-- A body is read only when it is due, so that reading the due times stays cheap. A message that
-- cannot be sent stays, and delays no other unless one call tries nothing else. Scripts do not roll
-- back: type, permission and size are checked before the first write, so that each message is
-- delivered once.

local dues, bodies, publish = KEYS[1], KEYS[2], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left, sent, bytes = 0, 0, 0
local reason = ''

local function obstacle(body, stream, channel)
  if not body then return 'its body cannot be read' end
  local kind = redis.call('TYPE', stream).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return 'key ' .. stream .. ' is a ' .. kind .. ', expected a stream'
  end
  if not redis.acl_check_cmd('XADD', stream, '*', 'm', '') then
    return 'no permission for XADD on ' .. stream
  end
  if not redis.acl_check_cmd(publish, channel, '') then
    return 'no permission for ' .. publish .. ' on ' .. channel
  end
  if not (redis.acl_check_cmd('ZREM', dues, 'm') and redis.acl_check_cmd('HDEL', bodies, 'f')) then
    return 'no permission for ZREM on ' .. dues .. ' and HDEL on ' .. bodies
  end
  if used_up(stream) then return 'stream ' .. stream .. ' has used up its IDs: delete the key' end
end

local function unpacked(packed)
  local good, body = pcall(cmsgpack.unpack, packed)
  if not (good and type(body) == 'table' and #body > 5 and #body < 7005) then return end
  for i = 1, #body do
    if type(body[i]) ~= 'string' then return end
  end
  local whole = body[4] == '' or (#body[4] < 16 and body[4]:match('^%d+$'))
  if #body % 2 == 0 and whole then return body end
end

-- deletes nothing: a script whose first write deletes may go on while memory is full
redis.pcall('ZREM', dues, '')
while left + sent < tonumber(ARGV[2]) and bytes < 8388608 do
  local name = redis.call('ZRANGEBYSCORE', dues, '-inf', now, 'LIMIT', left, 1)[1]
  if not name then break end
  local packed = redis.call('HGET', bodies, name)
  local body = packed and unpacked(packed)
  local to = body and body[1]
  local left_by = to and to:find('}:@guest~', 1, true) and redis.call('EXISTS', to) == 0
  local wrong = packed and not left_by and obstacle(body, to, body and body[2])
  if not packed then -- it was deleted by hand
    redis.call('ZREM', dues, name)
    sent = sent + 1
  elseif left_by then -- a guest that is gone: an entry would bring its stream back, for good
    redis.call('ZREM', dues, name)
    redis.call('HDEL', bodies, name)
    sent = sent + 1
  elseif wrong then
    left = left + 1
    if reason == '' then reason = wrong end
  else
    local entry
    if body[4] == '' then
      entry = redis.call('XADD', body[1], '*', unpack(body, 5))
    else
      entry = redis.call('XADD', body[1], 'MAXLEN', '~', body[4], '*', unpack(body, 5))
    end
    redis.call(publish, body[2], body[3] .. entry .. '"}')
    redis.call('ZREM', dues, name)
    redis.call('HDEL', bodies, name)
    sent = sent + 1
    bytes = bytes + #packed
  end
end

local following = redis.call('ZRANGE', dues, left, left, 'WITHSCORES')[2]
local wait = following and math.max(0, following - now) or -1
if wait == 0 and sent == 0 then wait = -1 end -- nothing can be sent: try again at the next heartbeat
return {wait, reason}
