-- A message was sent: the permission is used.
-- KEYS, ARGV  as in permission.lua
-- Gives 'settled'; 'already': it was spent; 'again': look up the topic again.
-- Guarantee: spent is never left, and comes from every state. Of several spends the one with a message id is told, then the
-- one with the highest fence.
local p = load()
if elsewhere(p) then return 'again' end
if p.state ~= 's' then
  finish(p, 's')
  save(p)
  return 'settled'
end
local named = ARGV[5] ~= ''
local better = named and not p.message or named == (p.message and true or false) and own > p.fence
if better then
  finish(p, 's')
  save(p)
end
return 'already'
