-- Gives back the last slots of a slice, when nobody reserved after them.
--
-- KEYS[1]  pace of a page and class, see reserve.lua
-- ARGV[1]  end of the slice as its owner knows it, µs
-- ARGV[2]  moment of the first unused slot, µs
-- Result   1 when given back, 0 when somebody reserved after
-- Guarantee: only the owner of the last slice moves the pace back, and never before a slot that was used.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', 60000)
return 1
