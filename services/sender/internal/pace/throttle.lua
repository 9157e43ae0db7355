-- Stops a page for a time.
--
-- KEYS[1]  throttle of the page: hash until (µs of Redis' clock), wait (µs), strikes
-- ARGV[1]  stated time, µs; 0: not stated, back off
-- ARGV[2]  first back-off, µs
-- ARGV[3]  longest back-off, µs
-- Result   {now, stopped until}, µs
-- Guarantee: a stop is never shortened. Calls that were under way when the page stopped say the same again: they make a
-- stop longer only when they state a longer time, and never raise the back-off.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local stated = tonumber(ARGV[1])
local old = redis.call('HMGET', KEYS[1], 'until', 'wait', 'strikes')
local till, wait, strikes = tonumber(old[1] or 0), tonumber(old[2] or 0), tonumber(old[3] or 0)
if till > now then
  if now + stated <= till then return {now, till} end
  wait = stated
elseif stated > 0 then
  wait, strikes = stated, 0
else
  -- Stopped again soon after the last stop: twice as long.
  if till == 0 or now - till > 2 * wait then strikes = 0 end
  wait = math.min(tonumber(ARGV[2]) * 2 ^ strikes, tonumber(ARGV[3]))
  strikes = math.min(strikes + 1, 20)
end
till = now + wait
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', till), 'wait', string.format('%.0f', wait), 'strikes', string.format('%.0f', strikes))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', 3 * wait / 1000 + 60000))
return {now, till}
