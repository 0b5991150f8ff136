-- Takes a message that somebody PUBLISHed by hand into its stream, once by its ID.
--
-- KEYS  1 the IDs taken so far, 2 the stream
-- ARGV  1 room, TYPE and ID, 2 PUBLISH or SPUBLISH, 3 channel, 4 header, 5 MAXLEN or "", then the fields
-- Returns the entry id, or nothing when it was taken before. The newest 10,000 IDs are remembered.

local now = redis.call('TIME')
if redis.call('ZADD', KEYS[1], 'NX', now[1], ARGV[1]) == 0 then return false end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -10001)
local entry
if ARGV[5] == '' then
  entry = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 6))
else
  entry = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', unpack(ARGV, 6))
end
redis.call(ARGV[2], ARGV[3], ARGV[4] .. entry .. '"}')
return entry
