-- Creates a group, or creates it again at 0: what it has done before is skipped by its marks.
--
-- KEYS  1 the stream, 2 what the group has done
-- ARGV  1 the group
-- Returns 1 when the group was created. The run of marked entries at the head of the stream is
-- passed over here; a mark further on is met by the commit, which acknowledges without effect.

local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made.err then
  if made.err:match('BUSYGROUP') then return 0 end
  return made
end
local last, start = nil, '-'
while true do
  local entries = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 100)
  for _, entry in ipairs(entries) do
    if not redis.call('ZSCORE', KEYS[2], entry[1]) then
      if last then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last) end
      return 1
    end
    last = entry[1]
  end
  if #entries < 100 then break end
  start = '(' .. last
end
if last then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last) end
return 1
