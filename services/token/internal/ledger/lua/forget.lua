-- Erases a person, and marks from where on facts about them count again.
-- KEYS  1 person  2 permissions of the person  3 marks of forgotten people  4 topics of the shard, then for each permission
--       given: permission, waiting list and counts of its topic, list of the day on which it lapses    (all in one slot)
-- ARGV  1 number of marks n, then n times field and sequence, then for each permission: its id, its topic, its id as it
--       stands in the list of the day
-- Gives the number of permissions erased; -1 when the person has got others since they were looked up: look again.
-- Guarantee: whole or not at all; a mark only rises. Nothing that tells of the person is left, a topic with nobody else neither.
local after = 2 + 2 * tonumber(ARGV[1])
if redis.call('SCARD', KEYS[2]) * 3 ~= #ARGV - after + 1 then return -1 end
for i = 2, after - 1, 2 do
  if tonumber(redis.call('HGET', KEYS[3], ARGV[i]) or '0') < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  end
end
local erased, at = 0, 5
for i = after, #ARGV, 3 do
  local record, waiting, counts, day = KEYS[at], KEYS[at + 1], KEYS[at + 2], KEYS[at + 3]
  at = at + 4
  local p = redis.call('HMGET', record, 'u', 's')
  if p[1] then
    redis.call('ZREM', waiting, ARGV[i])
    redis.call('HINCRBY', counts, p[2], -1)
    local left = false
    for _, n in ipairs(redis.call('HVALS', counts)) do left = left or n ~= '0' end
    if not left then
      redis.call('DEL', counts)
      redis.call('SREM', KEYS[4], ARGV[i + 1])
    end
    erased = erased + 1
  end
  redis.call('DEL', record)
  local entry = string.find(redis.call('GET', day) or '', ARGV[i + 2], 1, true)
  if entry then redis.call('SETRANGE', day, entry - 1, string.rep('\0', #ARGV[i + 2])) end
end
redis.call('DEL', KEYS[1], KEYS[2])
return erased
