-- Gives a send, and no other, the right to use a permission now.
-- KEYS  1 permission  2 waiting list of the topic asked for  3 counts of that topic      (all in one slot)
-- ARGV  1 permission id  2 send id  3 topic  4 lease, ms  5 '1' when the page is paused
-- Gives {0, reason}: denied, reason as in onebell.token.v1.DenialReason;
--       {1, fence, sealed token, psid, end of lease in ms, again, after unknown}: granted (the last two '0' or '1').
-- Guarantee: of any number of calls under different send ids one is granted. The same send is granted again with a higher
-- fence. A grant has the mark 'after unknown' whenever a fence before it is not known to be released: its call may have been
-- made. Times are Redis' own. The rules are told in package permission.
local p = redis.call('HMGET', KEYS[1], 's', 'o', 'x', 'n', 'i', 'l', 'f', 'k', 'u', 'h', 'd', 'j', 'y')
local state, topic, lapses, parked, holder, lease, fence = p[1], p[2], p[3], p[4], p[5], p[6], tonumber(p[7] or '0')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local UNKNOWN, SPENT, EXPIRED, REVOKED, LEASED, TOPIC, STOPPED, PAUSED, NOT_YET = 1, 2, 3, 4, 5, 6, 7, 8, 9

if not p[9] then return {0, UNKNOWN} end
if p[10] then return {0, STOPPED} end
if topic ~= ARGV[3] then return {0, TOPIC} end
if state == 's' then return {0, SPENT} end
if state == 'r' or state == 'v' then return {0, REVOKED} end
if state == 'e' then return {0, EXPIRED} end
local running = state == 'g' and now < tonumber(lease)
if now >= tonumber(lapses) then
  if not running then
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('HINCRBY', KEYS[3], state, -1)
    redis.call('HINCRBY', KEYS[3], 'e', 1)
    redis.call('HSET', KEYS[1], 's', 'e')
    if p[12] then redis.call('HSET', KEYS[1], 'i', p[12]) end
    redis.call('HDEL', KEYS[1], 'l', 'j')
  end
  return {0, EXPIRED}
end
if ARGV[5] == '1' then return {0, PAUSED} end
if parked and now < tonumber(parked) then return {0, NOT_YET} end

-- Whether every fence up to n is released: then the set of the released is the one range 1 to n.
local function clear(n)
  local want = n > 1 and string.format('1-%d', n) or n == 1 and '1' or ''
  return (p[11] or '') == want
end

local again, after = '0', '0'
if state == 'u' then
  if holder ~= ARGV[2] then return {0, LEASED} end
  again, after = '1', '1'
elseif state == 'g' then
  if holder ~= ARGV[2] and running then return {0, LEASED} end
  if holder == ARGV[2] then again = '1' end
  if not running or p[13] or not clear(fence - 1) then after = '1' end
else
  redis.call('ZREM', KEYS[2], ARGV[1])
  if not clear(fence) then after = '1' end
end
redis.call('HINCRBY', KEYS[3], state, -1)
redis.call('HINCRBY', KEYS[3], 'g', 1)
fence = fence + 1
local ends = now + tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 's', 'g', 'i', ARGV[2], 'l', string.format('%.0f', ends), 'f', fence)
redis.call('HDEL', KEYS[1], 'n', 'j')
return {1, fence, p[8], p[9], ends, again, after}
