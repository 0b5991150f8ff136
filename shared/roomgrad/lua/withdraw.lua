-- Lets each group skip an entry if nothing else waits for the group: a question that was given up.
--
-- KEYS  1 the stream
-- ARGV  1 the entry
-- Returns how many groups skip it. The entry stays in the stream, since the server loses count of
-- what waits for a group when an entry is deleted.

local function fields(info)
  local found = {}
  for i = 1, #info, 2 do found[info[i]] = info[i + 1] end
  return found
end

local skipped = 0
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = fields(info)
  local after = '(' .. group['last-delivered-id']
  local entry = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)[1]
  if group.lag == 1 and entry and entry[1] == ARGV[1] then
    local added = fields(redis.call('XINFO', 'STREAM', KEYS[1]))['entries-added']
    redis.call('XGROUP', 'SETID', KEYS[1], group.name, ARGV[1], 'ENTRIESREAD', added)
    skipped = skipped + 1
  end
end
return skipped
