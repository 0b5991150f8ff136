-- Writes a field if it has not changed since it was read.
--
-- KEYS  1 the hash
-- ARGV  1 the field, 2 the value that was read, 3 the new one
-- Returns 1 if it was written.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
