-- Finds which of some commands this user may not run.
--
-- KEYS  a key of the run, which selects the node
-- ARGV  the commands, each as a JSON list of its words
-- Returns the numbers of those that are forbidden or unknown to this server.

local forbidden = {}
for number, text in ipairs(ARGV) do
  local words = cjson.decode(text)
  local good, may = pcall(redis.acl_check_cmd, unpack(words))
  if not (good and may) then forbidden[#forbidden + 1] = number end
end
return forbidden
