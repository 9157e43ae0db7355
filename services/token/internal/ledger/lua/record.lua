-- Stores a permission.
-- KEYS  1 permission  2 waiting list of its topic  3 counts of its topic  4 topics of the shard
--       5 permissions of its person  6 person  7 what lapses on its day  8 days on which something lapses
--       9 marks of forgotten people                    (all in one slot)
-- ARGV  1 permission id  2 psid  3 sealed token  4 topic  5 qty  6 below: amount  7 below: currency
--       8 opted in, ms  9 lapses, ms  10 sequence in OPTINS  11 day on which it lapses  12 its entry in the list of that day
--       13... fields of the marks under which its person may be forgotten
-- Gives 1 recorded, 0 stored before, 2 its person was forgotten after the opt-in.
-- Guarantee: the first of any number of calls stores; later ones change nothing. A stub that a fact about a
-- permission not yet read has left (see permission.lua) is filled in and keeps its state; unknown and waiting ones lapse.
local stub = redis.call('HMGET', KEYS[1], 'u', 's', 'j')
if stub[1] then return 0 end
for _, forgotten in ipairs(redis.call('HMGET', KEYS[9], unpack(ARGV, 13))) do
  if forgotten and tonumber(forgotten) >= tonumber(ARGV[10]) then return 2 end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stopped = redis.call('HGET', KEYS[6], 'x') == '1'
local state = stub[2] or 'w'
if state == 'w' or state == 'u' then
  if now >= tonumber(ARGV[9]) then state = 'e' elseif state == 'w' and stopped then state = 'r' end
end
if state == 'e' and stub[3] then
  redis.call('HSET', KEYS[1], 'i', stub[3])
  redis.call('HDEL', KEYS[1], 'j')
end
redis.call('HSET', KEYS[1], 'u', ARGV[2], 'k', ARGV[3], 'o', ARGV[4], 'a', ARGV[8], 'x', ARGV[9], 's', state)
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'q', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'b', ARGV[6], 'c', ARGV[7]) end
if stopped then redis.call('HSET', KEYS[1], 'h', '1') end
if state == 'w' then redis.call('ZADD', KEYS[2], ARGV[8], ARGV[1]) end
redis.call('HINCRBY', KEYS[3], state, 1)
redis.call('SADD', KEYS[4], ARGV[4])
redis.call('SADD', KEYS[5], ARGV[1])
if state ~= 'e' and state ~= 's' and state ~= 'v' and redis.call('APPEND', KEYS[7], ARGV[12]) == #ARGV[12] then
  redis.call('ZADD', KEYS[8], ARGV[11], ARGV[11])
end
return 1
