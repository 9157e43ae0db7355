-- Notes when a person last did something that opens the 24-hour window.
-- KEYS  1 person
-- ARGV  1 time, ms
-- Guarantee: the latest time stays, in whatever order they come.
if tonumber(redis.call('HGET', KEYS[1], 'i') or '0') < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'i', ARGV[1])
end
return 1
