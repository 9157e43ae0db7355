-- Moves a permission that has lapsed to expired.
-- KEYS  1 permission  2 waiting list of its topic  3 counts of its topic      (all in one slot)
-- ARGV  1 permission id
-- Gives 1 moved; 0 nothing to do: it is used, void, expired before, or erased; 2 not yet: it lapses later, or a lease runs.
-- Guarantee: a permission is never moved before it lapses, nor while a send holds it. A rebuild gives the same state: it
-- takes up as expired what has lapsed and is neither used nor void. A late word that it was used still counts.
local p = redis.call('HMGET', KEYS[1], 'u', 's', 'x', 'l', 'j')
local known, state, lapses, lease = p[1], p[2], tonumber(p[3] or '0'), tonumber(p[4] or '0')
if not known or state == 's' or state == 'v' or state == 'e' then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now < lapses or (state == 'g' and now < lease) then return 2 end
if state == 'w' then redis.call('ZREM', KEYS[2], ARGV[1]) end
redis.call('HINCRBY', KEYS[3], state, -1)
redis.call('HINCRBY', KEYS[3], 'e', 1)
redis.call('HSET', KEYS[1], 's', 'e')
-- What is known of its fences stays, for late words: see permission.lua.
if p[5] then redis.call('HSET', KEYS[1], 'i', p[5]) end
redis.call('HDEL', KEYS[1], 'l', 'j')
return 1
