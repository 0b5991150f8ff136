-- Returns the beginnings of the records in a component's memory, without the arrays behind them.
--
-- KEYS  1 the memory
-- ARGV  1 the cursor of the page before, or 0, 2 bytes of each record
-- Returns {cursor of the next page or "0", {field, head...}}.

local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 200)
for i = 2, #page[2], 2 do page[2][i] = page[2][i]:sub(1, tonumber(ARGV[2])) end
return page
