-- What several scripts share; it is put before each of them when it is loaded.

-- After the highest ID a stream accepts no entry, even if that entry was deleted since. XINFO STREAM
-- would tell in any case, but returns whole entries: it is asked only if there are none, or if a group
-- has no lag, since an entry was deleted that it has not read.
local LAST = '18446744073709551615'
local function used_up(stream)
  if redis.call('EXISTS', stream) == 0 then return false end
  if #redis.call('XRANGE', stream, LAST, '+', 'COUNT', 1) > 0 then return true end
  local groups = redis.call('XINFO', 'GROUPS', stream)
  local unsure = #groups == 0 or redis.call('XLEN', stream) == 0
  for _, info in ipairs(groups) do
    for i = 1, #info, 2 do
      if info[i] == 'last-delivered-id' and info[i + 1]:sub(1, #LAST) == LAST then return true end
      unsure = unsure or info[i] == 'lag' and not info[i + 1]
    end
  end
  if not unsure then return false end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1]:sub(1, #LAST) == LAST end
  end
end
