-- Which of some commands this user may not run.
--
-- KEYS  a key of the run, for its pattern's sake
-- ARGV  the commands, each as a JSON list of its words
-- Returns the numbers of those that are forbidden, or that this server does not know.

local forbidden = {}
for number, text in ipairs(ARGV) do
  local words = cjson.decode(text)
  local good, may = pcall(redis.acl_check_cmd, unpack(words))
  if not (good and may) then forbidden[#forbidden + 1] = number end
end
return forbidden
