-- Applies a fact about a person: tags, or stopped and resumed.
-- KEYS  1 person  2 permissions of the person, then for each permission given: permission, waiting list and counts of its topic
--       (all in one slot)
-- ARGV  1 sequence of the fact in its stream  2 'tag', 'stop' or 'resume'
--       tag: 3 n, n tags to add, then the tags to remove; stop, resume: 3... the ids of the permissions given
-- Gives the number of permissions revoked, or waiting again; -1 when the person has got others since they were looked up: look
-- again.
-- Waiting ones become revoked and come back, or expired when they have lapsed meanwhile; others only bear the mark that their
-- person is stopped.
-- Guarantee: of two facts about one thing the one with the higher sequence holds, in whatever order they come.
local seq = tonumber(ARGV[1])
if ARGV[2] == 'tag' then
  local n = tonumber(ARGV[3])
  for i = 4, #ARGV do
    local field = 't:' .. ARGV[i]
    local had = tonumber(redis.call('HGET', KEYS[1], field) or '0')
    if math.abs(had) <= seq then
      redis.call('HSET', KEYS[1], field, (i - 3 > n) and -seq or seq)
    end
  end
  return 0
end
if redis.call('SCARD', KEYS[2]) ~= #ARGV - 2 then return -1 end
local last = tonumber(redis.call('HGET', KEYS[1], 'xs') or '0')
if last > seq then return 0 end
local stop = ARGV[2] == 'stop'
redis.call('HSET', KEYS[1], 'x', stop and '1' or '0', 'xs', seq)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The same fact again, from the stream and from whoever said it, in either order: both are told what it changed.
local changed = last == seq and tonumber(redis.call('HGET', KEYS[1], 'xn') or '0') or 0
for i = 3, #ARGV do
  local at = (i - 3) * 3 + 3
  local key, waiting, counts = KEYS[at], KEYS[at + 1], KEYS[at + 2]
  local p = redis.call('HMGET', key, 's', 'a', 'x')
  if stop then redis.call('HSET', key, 'h', '1') else redis.call('HDEL', key, 'h') end
  if p[1] == (stop and 'w' or 'r') then
    local to = stop and 'r' or 'w'
    if now >= tonumber(p[3]) then to = 'e' else changed = changed + 1 end
    if stop then redis.call('ZREM', waiting, ARGV[i]) end
    if to == 'w' then redis.call('ZADD', waiting, p[2], ARGV[i]) end
    redis.call('HSET', key, 's', to)
    redis.call('HINCRBY', counts, p[1], -1)
    redis.call('HINCRBY', counts, to, 1)
  end
end
redis.call('HSET', KEYS[1], 'xn', changed)
return changed
