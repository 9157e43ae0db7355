-- Reserves slots: moments at which one call of a page may start. The one place where the pace of all workers is kept.
--
-- KEYS[1]  pace of a page and class: the first moment nobody has reserved, µs of Redis' clock
-- KEYS[2]  throttle of the page: hash until (µs), wait (µs), strikes
-- KEYS[3]  fingerprint of the access token with which the page was refused
-- ARGV[1]  slots wanted, 0: only look
-- ARGV[2]  time between two slots, µs
-- ARGV[3]  fingerprint of the caller's access token
-- ARGV[4]  how soon the first slot is of use to the caller, µs
-- ARGV[5]  how far ahead slots are given, µs
-- Result   {slots given, now, moment of the first slot, stopped until or 0, 1 when refused with this token}, times in µs
-- Guarantee: a slot is given once, and two slots of a page are never closer than the time between them, whoever asks and
-- however often: a slice whose answer was lost is lost, never given twice. While the page is stopped none is given.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local stopped = tonumber(redis.call('HGET', KEYS[2], 'until') or 0)
if stopped <= now then stopped = 0 end
local refused = 0
if redis.call('GET', KEYS[3]) == ARGV[3] then refused = 1 end
local want, spacing = tonumber(ARGV[1]), tonumber(ARGV[2])
if want == 0 or stopped > 0 or refused == 1 then
  return {0, now, 0, stopped, refused}
end
local at = tonumber(redis.call('GET', KEYS[1]) or 0)
if at < now + tonumber(ARGV[4]) then at = now + tonumber(ARGV[4]) end
if at > now + tonumber(ARGV[5]) then
  -- Further ahead than the workers together can have come: the clock was set back.
  if at > now + 100 * tonumber(ARGV[5]) then redis.call('DEL', KEYS[1]) end
  return {0, now, at, 0, 0}
end
local past = at + want * spacing
redis.call('SET', KEYS[1], string.format('%.0f', past), 'PX', string.format('%.0f', (past - now) / 1000 + 1000))
return {want, now, at, 0, 0}
