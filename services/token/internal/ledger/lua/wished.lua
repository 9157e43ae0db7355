-- Notes when a person last said whether to get messages: stopped or resumed.
-- KEYS  1 person
-- ARGV  1 time, ms
-- Gives 1.
-- Guarantee: the latest time stays, in whatever order they come. Of somebody about whom no such fact is known, nothing is
-- kept: an erased person stays erased.
if redis.call('HEXISTS', KEYS[1], 'xs') == 1 and tonumber(redis.call('HGET', KEYS[1], 'xt') or '0') < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'xt', ARGV[1])
end
return 1
