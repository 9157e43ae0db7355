-- The permission was found lapsed by whoever wanted to use it.
-- KEYS, ARGV  as in permission.lua
-- Gives 'settled'; 'already': it was said before, or the permission is void or spent; 'again': look up the topic again.
-- Guarantee: expired by an outcome is left only for void and spent: not by a try, a release or a resumed person. Of several
-- the one with the highest fence is told.
local p = load()
if elsewhere(p) then return 'again' end
if p.state == 's' or p.state == 'v' then return 'already' end
local was = final(p)
if not was or own > p.fence then
  finish(p, 'e')
  save(p)
end
return was and 'already' or 'settled'
