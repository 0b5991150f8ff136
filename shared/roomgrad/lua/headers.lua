-- Returns entries of a stream without their arrays, the oldest first; from "+" on, the newest first.
--
-- KEYS  1 the stream
-- ARGV  1 where to begin ("-", "+", an entry id, or "(" and an entry id), 2 how many at most,
--       3 bytes to which a value is cut, 4.. the fields to return
-- Returns {entry id, {field, value...}, bytes of all its fields} of each. Fewer than asked for do
-- not mean the end: one call reads some 4 MiB, so that large messages do not block the server.

local wanted = {}
for at = 4, #ARGV do wanted[ARGV[at]] = true end
local found, total, start = {}, 0, ARGV[1]
local most = tonumber(ARGV[3])
local read, last = 'XRANGE', '+'
if start == '+' then read, last = 'XREVRANGE', '-' end
while #found < tonumber(ARGV[2]) and total < 4194304 do
  local entry = redis.call(read, KEYS[1], start, last, 'COUNT', 1)[1]
  if not entry then break end
  local head, size = {}, 0
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    size = size + #name + #value
    if wanted[name] then
      head[#head + 1] = name
      head[#head + 1] = value:sub(1, most)
    end
  end
  total = total + size
  found[#found + 1] = {entry[1], head, size}
  start = '(' .. entry[1]
end
return found
