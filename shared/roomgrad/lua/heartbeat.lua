-- Stores the heartbeat of one replica, and finds messages of dead replicas.
--
-- KEYS  1 the heartbeat, 2 the run's hash, 3 the due times of delayed messages, 4 the component's memory,
--       then the streams that the replica reads
-- ARGV  1 heartbeat value, 2 its lifetime in ms, 3 group, 4 lease in ms, 5 this consumer,
--       6 prefix of heartbeat keys, 7 "1" to delete consumers of dead replicas,
--       8 "1" to search for messages of dead replicas, 9 PUBLISH or SPUBLISH
-- Returns {run token, ms until a delayed message is due or -1, ms until the next lease of a dead
-- replica ends or -1, 1 if the heartbeat was published, number of records in memory or -1, 1 if the
-- server's memory is full, the server's time in seconds and microseconds, {stream number, entry
-- id}...}: entries whose lease is over and whose owner has no heartbeat, or is this consumer. It uses
-- XPENDING and the owner's heartbeat, never XAUTOCLAIM, which would also claim messages of living
-- replicas.

local full = 0
local stored = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if stored.err then
  if not stored.err:match('^OOM') then return stored end
  full = 1
  redis.call('DEL', KEYS[1]) -- a script whose first write deletes may go on while memory is full
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
-- a replica that misses its own heartbeat misses its rooms, too; publishing may be forbidden
local published = type(redis.pcall(ARGV[9], KEYS[1], ARGV[5])) == 'number' and 1 or 0
local first = redis.pcall('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
local wait, time = -1, redis.call('TIME')
if first then
  wait = math.max(0, first - time[1] * 1000 - math.floor(time[2] / 1000))
end
local records = redis.pcall('HLEN', KEYS[4]) -- a component without memory may lack the permission
if type(records) ~= 'number' then records = -1 end
local token = redis.call('HGET', KEYS[2], 'token') or ''
local found = {token, wait, -1, published, records, full, time[1], time[2]}
local group, lease, me, prefix = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local alive = {}
local function is_alive(consumer)
  if alive[consumer] == nil then alive[consumer] = redis.call('EXISTS', prefix .. consumer) == 1 end
  return alive[consumer]
end
local function inspect(number, entry, owner, idle)
  if owner ~= me and is_alive(owner) then return end
  if idle >= lease then
    found[#found + 1] = {number, entry}
  elseif owner ~= me and (found[3] < 0 or lease - idle < found[3]) then
    found[3] = lease - idle
  end
end
for number = 5, #KEYS do
  local start = ARGV[8] == '1' and '-'
  while start and #found <= 64 do -- pages through the messages of slow but living replicas
    local pending = redis.pcall('XPENDING', KEYS[number], group, start, '+', 64)
    start = nil
    if not pending.err then
      for _, entry in ipairs(pending) do inspect(number - 4, entry[1], entry[2], entry[3]) end
      if #pending == 64 then start = '(' .. pending[64][1] end
    end
  end
  if ARGV[7] == '1' then
    local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[number], group)
    if not consumers.err then
      for _, consumer in ipairs(consumers) do
        -- name, n, pending, n, idle, n: the reply is a flat map
        if consumer[4] == 0 and consumer[6] > 60000 and not is_alive(consumer[2]) then
          redis.call('XGROUP', 'DELCONSUMER', KEYS[number], group, consumer[2])
        end
      end
    end
  end
end
return found
