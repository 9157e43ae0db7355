-- The platform says that the token is good for nothing.
-- KEYS, ARGV  as in permission.lua
-- Gives 'settled'; 'already': it was void, or spent; 'again': look up the topic again.
-- Guarantee: void is left only for spent. Of several the one with the highest fence is told.
local p = load()
if elsewhere(p) then return 'again' end
if p.state == 's' then return 'already' end
local was = p.state == 'v'
if not was or own > p.fence then
  finish(p, 'v')
  save(p)
end
return was and 'already' or 'settled'
