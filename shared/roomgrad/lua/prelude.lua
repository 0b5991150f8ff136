-- What several scripts share; it is put before each of them when it is loaded.

-- After the highest ID a stream accepts no entry, even if that entry was deleted since.
local LAST = '18446744073709551615'
local function used_up(stream)
  if redis.call('EXISTS', stream) == 0 then return false end
  if #redis.call('XRANGE', stream, LAST, '+', 'COUNT', 1) > 0 then return true end
  local about = redis.call('XINFO', 'GROUPS', stream)
  if #about == 0 or redis.call('XLEN', stream) == 0 then -- only then: it returns whole entries
    about = {redis.call('XINFO', 'STREAM', stream)}
  end
  for _, info in ipairs(about) do
    for i = 1, #info, 2 do
      local id = (info[i] == 'last-generated-id' or info[i] == 'last-delivered-id') and info[i + 1]
      if id and id:sub(1, #LAST) == LAST then return true end
    end
  end
  return false
end
