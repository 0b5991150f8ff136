-- Returns dead letters, the newest first, with large values cut.
--
-- KEYS  1 the dead letters
-- ARGV  1 where to begin ("+", an entry id, or "(" and an entry id), 2 where to end ("-" or an entry
--       id), 3 how many at most, 4 bytes to which a value is cut
-- Returns {entry id, bytes, {field, value...}} of each. Fewer than asked for do not mean the end:
-- one call reads some 8 MiB, so that large dead letters do not block the server.

local found, total, start = {}, 0, ARGV[1]
local most = tonumber(ARGV[4])
while #found < tonumber(ARGV[3]) and total < 8388608 do
  local letter = redis.call('XREVRANGE', KEYS[1], start, ARGV[2], 'COUNT', 1)[1]
  if not letter then break end
  local bytes = 0
  for i, value in ipairs(letter[2]) do
    bytes = bytes + #value
    if #value > most then letter[2][i] = value:sub(1, most) end
  end
  found[#found + 1] = {letter[1], bytes, letter[2]}
  total = total + bytes
  start = '(' .. letter[1]
end
return found
