-- Marks the index as complete.
-- KEYS  1 epoch  2 lock of the rebuild      (one slot)
-- ARGV  1 the lock's holder  2 epoch
-- Gives 1 when it is marked, 0 when the lock is not ours any more: Redis was emptied meanwhile, or somebody else took over.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2])
return 1
