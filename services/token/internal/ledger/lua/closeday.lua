-- Removes the list of a day that is over.
-- KEYS  1 list of the day  2 days on which something lapses      (one slot)
-- ARGV  1 day  2 length of the list, bytes, as it was read
-- Gives 1 removed, 0 when something was added since.
if redis.call('STRLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
