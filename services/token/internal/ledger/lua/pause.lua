-- Notes that a cause pauses a page, or no longer does.
-- KEYS  1 causes that have paused the page
-- ARGV  1 cause  2 time at which it was said, ms  3 '1' paused, '0' resumed
-- Gives 1 noted, 0 when something later was said before, or the same.
-- Guarantee: of two facts with one cause the one said later holds, in whatever order they come; of two said at the same time
-- the pause.
local had, at, pauses = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0'), tonumber(ARGV[2]), ARGV[3] == '1'
if math.abs(had) > at or math.abs(had) == at and (had > 0 or not pauses) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], (pauses and '' or '-') .. ARGV[2])
return 1
