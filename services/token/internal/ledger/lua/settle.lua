-- Applies what became of a send.
-- KEYS  1 permission  2 waiting list of its topic  3 counts of its topic      (all in one slot)
-- ARGV  1 permission id  2 effect: spend, void, expire, cloud, try, release  3 send id  4 fence  5 message id
--       6 parked until, ms ('' for not)  7 'check': say what would happen and change nothing; else ''
-- Gives 'settled'; 'already': it was so; 'stale': the fence is not that of the grant in force; 'missing': no such permission.
-- Fields used here: s state, f highest fence, i the send that holds or used it, y fences whose try is unclear,
-- d highest fence released, n parked until.
-- Guarantee: spent is never left, and void only for spent. A fact about a permission not yet read leaves a stub (no field u).
-- A release undoes only the grant of its own fence; while another try of this permission is unclear it stays unknown.
local p = redis.call('HMGET', KEYS[1], 's', 'u', 'f', 'i', 'y', 'h', 'x', 'a', 'm', 'd')
local state, known, fence, holder = p[1] or 'w', p[2], tonumber(p[3] or '0'), p[4]
local effect, send, own, check = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[7] == 'check'

local function move(to)
  if known and to ~= state then
    redis.call('HINCRBY', KEYS[3], state, -1)
    redis.call('HINCRBY', KEYS[3], to, 1)
    if state == 'w' then redis.call('ZREM', KEYS[2], ARGV[1]) end
    if to == 'w' then redis.call('ZADD', KEYS[2], p[8], ARGV[1]) end
  end
  redis.call('HSET', KEYS[1], 's', to)
end

-- The fences whose try is unclear, without our own.
local unclear, had = '', false
for f in string.gmatch(p[5] or '', '%d+') do
  if tonumber(f) == own then had = true else unclear = unclear .. ' ' .. f end
end

if check then
  -- Asked by a caller, who must hold the grant in force.
  if not known then return 'missing' end
  if state == 's' then
    if holder == send then return 'already' end
    return 'stale'
  end
  if own ~= fence or holder ~= send then return 'stale' end
  if state == 'v' and effect == 'void' or state == 'u' and effect == 'cloud' then return 'already' end
  if state == 'w' and effect == 'release' then return 'already' end
  if state ~= 'g' and state ~= 'u' then return 'stale' end
  return 'settled'
end

if effect == 'spend' then
  if state == 's' then
    if ARGV[5] ~= '' and not p[9] then redis.call('HSET', KEYS[1], 'm', ARGV[5]) end
    return 'already'
  end
  move('s')
  redis.call('HSET', KEYS[1], 'i', send, 'f', math.max(fence, own))
  if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'm', ARGV[5]) end
  redis.call('HDEL', KEYS[1], 'l', 'n', 'y', 'd')
  return 'settled'
end
if state == 's' or state == 'v' then return 'already' end
if effect == 'void' or effect == 'expire' then
  if effect == 'expire' and (state == 'e' or state == 'r') then return 'already' end
  move(effect == 'void' and 'v' or 'e')
  redis.call('HSET', KEYS[1], 'i', send, 'f', math.max(fence, own))
  redis.call('HDEL', KEYS[1], 'l', 'n', 'y', 'd')
  return 'settled'
end
if effect == 'try' then
  -- A call that was about to be made. One whose grant is known here, or was released, says nothing new.
  if own <= fence or own <= tonumber(p[10] or '0') then return 'already' end
  effect = 'cloud'
end
if effect == 'cloud' then
  redis.call('HSET', KEYS[1], 'y', unclear .. ' ' .. own)
  if own < fence then
    if state == 'w' then
      move('u')
      redis.call('HSET', KEYS[1], 'i', send)
      return 'settled'
    end
    return 'stale'
  end
  if state ~= 'r' and state ~= 'e' then move('u') end
  redis.call('HSET', KEYS[1], 'i', send, 'f', own)
  redis.call('HDEL', KEYS[1], 'l')
  if had and state == 'u' then return 'already' end
  return 'settled'
end
if effect == 'release' then
  -- Fences begin again when Redis was lost: the same number may be another send's.
  if state == 'g' and own == fence and holder ~= send then return 'stale' end
  if unclear == '' then redis.call('HDEL', KEYS[1], 'y') else redis.call('HSET', KEYS[1], 'y', unclear) end
  local last = math.max(own, tonumber(p[10] or '0'))
  fence = math.max(fence, own)
  redis.call('HSET', KEYS[1], 'd', last, 'f', fence)
  if state == 'g' and own < fence then return 'stale' end
  if state ~= 'g' and state ~= 'u' then
    if ARGV[6] ~= '' and state == 'w' and own == fence then redis.call('HSET', KEYS[1], 'n', ARGV[6]) end
    return 'already'
  end
  redis.call('HDEL', KEYS[1], 'l')
  if unclear ~= '' or last < fence then
    move('u')
    return own < fence and 'stale' or 'settled'
  end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if known and now >= tonumber(p[7]) then move('e') elseif p[6] then move('r') else move('w') end
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'n', ARGV[6]) end
  return 'settled'
end
return redis.error_reply('settle: unknown effect ' .. effect)
