-- A call is about to be made: until its outcome is known, nobody knows whether it was.
-- KEYS, ARGV  as in permission.lua
-- Gives 'settled'; 'already': known before, or the permission is used up; 'stale': a later grant is known, so that this only
--       adds a doubt, or the try was released; 'again': look up the topic again.
-- Guarantee: a grant in force stays in force. Else the permission is unknown until this fence is released or the permission
-- lapses or is used up. A release of this fence that came before wins.
local p = load()
if elsewhere(p) then return 'again' end
if final(p) then return 'already' end
if own == 0 or released(p) then return 'stale' end
local known = false
for _, try in ipairs(p.unclear) do
  known = known or try.fence == own and try.send == send
end
if not known then table.insert(p.unclear, {fence = own, send = send}) end
rise(p)
local stale = own < p.fence or send ~= p.send
if p.state ~= 'g' then p.state = rest(p) end
save(p)
if known then return 'already' end
return stale and 'stale' or 'settled'
