-- Heartbeat of one replica, and what nobody handles.
--
-- KEYS  1 the heartbeat, 2 the run's hash, 3 when messages that were staged for later are due,
--       4 the component's memory, then the streams that the replica reads
-- ARGV  1 heartbeat value, 2 its life in ms, 3 group, 4 lease in ms, 5 this consumer,
--       6 prefix of heartbeat keys, 7 "1" to remove consumers that are gone,
--       8 "1" to look for what dead replicas left behind, 9 PUBLISH or SPUBLISH
-- Returns {run token, ms until a delayed message is due or -1, ms until the next lease of a dead
-- replica is over or -1, 1 if the heartbeat rang, how many records it remembers or -1,
-- {stream number, entry id}...}: the entries whose
-- lease is over and whose owner's heartbeat is gone, or is this consumer. XPENDING and a look at
-- the owner, never XAUTOCLAIM, which takes from the living.

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
-- who does not hear its own heartbeat hears nothing of its rooms either; it may be forbidden
local rang = type(redis.pcall(ARGV[9], KEYS[1], ARGV[5])) == 'number' and 1 or 0
local first = redis.pcall('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
local wait = -1
if first then
  local time = redis.call('TIME')
  wait = math.max(0, first - time[1] * 1000 - math.floor(time[2] / 1000))
end
local records = redis.pcall('HLEN', KEYS[4]) -- who has no memory may not be allowed to look
if type(records) ~= 'number' then records = -1 end
local found = {redis.call('HGET', KEYS[2], 'token') or '', wait, -1, rang, records}
local group, lease, me, prefix = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local living = {}
local function lives(consumer)
  if living[consumer] == nil then living[consumer] = redis.call('EXISTS', prefix .. consumer) == 1 end
  return living[consumer]
end
local function look(number, entry, owner, idle)
  if owner ~= me and lives(owner) then return end
  if idle >= lease then
    found[#found + 1] = {number, entry}
  elseif owner ~= me and (found[3] < 0 or lease - idle < found[3]) then
    found[3] = lease - idle
  end
end
for number = 5, #KEYS do
  local start = ARGV[8] == '1' and '-'
  while start and #found <= 64 do -- what many slow but living replicas hold is looked through
    local pending = redis.pcall('XPENDING', KEYS[number], group, start, '+', 64)
    start = nil
    if not pending.err then
      for _, entry in ipairs(pending) do look(number - 4, entry[1], entry[2], entry[3]) end
      if #pending == 64 then start = '(' .. pending[64][1] end
    end
  end
  if ARGV[7] == '1' then
    local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[number], group)
    if not consumers.err then
      for _, consumer in ipairs(consumers) do
        -- name, n, pending, n, idle, n: the reply is a flat map
        if consumer[4] == 0 and consumer[6] > 60000 and consumer[2] ~= me and not lives(consumer[2]) then
          redis.call('XGROUP', 'DELCONSUMER', KEYS[number], group, consumer[2])
        end
      end
    end
  end
end
return found
