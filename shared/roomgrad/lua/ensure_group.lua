-- Creates a group if it is missing. It starts at 0; its done marks skip what it has handled before.
--
-- KEYS  1 the stream, 2 the group's done marks
-- ARGV  1 the group
-- Returns 1 if the group was created. Marked entries at the head of the stream are skipped here;
-- the commit finds a mark further on, and acknowledges the entry without effect.

local function create() return redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM') end
local created = create()
if created.err and created.err:match('^OOM') then -- memory is full; the group may exist
  redis.pcall('XACK', KEYS[1], ARGV[1], '0-1') -- a script whose first write acknowledges may go on
  created = create()
end
if created.err then
  if created.err:match('BUSYGROUP') then return 0 end
  return created
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
