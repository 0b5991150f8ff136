-- Trims the history of one stream that every declared group has acknowledged.
--
-- KEYS  1 the stream, 2 the run's hash, then the sorted sets of what the caller's groups have done
-- ARGV  1 entries to keep, 2 bytes to keep, then the groups
-- Returns how many entries were deleted. No unacknowledged entry is ever trimmed: neither for these
-- groups nor for those of the gateway's clients, which are in no contract.

local function parts(id)
  local ms, sequence = id:match('^(%d+)-(%d+)$')
  return ms, sequence
end
-- ids as numbers would lose digits in a double: compare the longer, then the greater text
local function less(a, b)
  local a1, a2 = parts(a)
  local b1, b2 = parts(b)
  if a1 ~= b1 then return #a1 < #b1 or (#a1 == #b1 and a1 < b1) end
  return #a2 < #b2 or (#a2 == #b2 and a2 < b2)
end

local stream = KEYS[1]
local length = redis.call('XLEN', stream)
local keep = math.max(1, tonumber(ARGV[1]))
local bytes = redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', 5)
if bytes and bytes > tonumber(ARGV[2]) then
  keep = math.min(keep, math.floor(length * tonumber(ARGV[2]) / bytes))
end

-- Entries that were trimmed need no marks any more.
local function forget_marks()
  local oldest
  for i = 3, #KEYS do
    if redis.call('ZCARD', KEYS[i]) > redis.call('XLEN', stream) then
      oldest = oldest or redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
      if oldest then
        redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', '(' .. parts(oldest[1]))
      end
    end
  end
end
if length <= keep then
  forget_marks()
  return 0
end

local positions = {}
for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local fields = {}
  for i = 1, #info, 2 do fields[info[i]] = info[i + 1] end
  positions[fields.name] = fields['last-delivered-id']
end
local limit -- the oldest entry that a group may still need
local function keep_for(group, delivered)
  local pending = redis.call('XPENDING', stream, group)
  local first = pending[1] > 0 and pending[2] or delivered
  if not limit or less(first, limit) then limit = first end
end
local function joined(group) -- the caller may not know a component that has joined the run
  local known = redis.call('HMGET', KEYS[2], 'joins:' .. group, 'forgotten:' .. group)
  return known[1] and not known[2]
end
for group, delivered in pairs(positions) do
  if group:find('@gateway', 1, true) or joined(group) then keep_for(group, delivered) end
end
for i = 3, #ARGV do
  local group = ARGV[i]
  local delivered = positions[group]
  if delivered then
    keep_for(group, delivered)
  elseif redis.call('HEXISTS', KEYS[2], 'forgotten:' .. group) == 0 then
    return 0 -- destroyed: it will be created again at 0 and needs every entry
  end
end
-- Groups without a backlog need few entries; acknowledged entries, which may be large, are not read.
local deleted
if limit and #redis.call('XRANGE', stream, limit, '+', 'COUNT', keep + 1) > keep then
  deleted = redis.call('XTRIM', stream, 'MINID', limit)
else
  deleted = redis.call('XTRIM', stream, 'MAXLEN', keep)
end
forget_marks()
return deleted
