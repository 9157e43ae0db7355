-- It is certain that nothing was sent under this grant.
-- KEYS, ARGV  as in permission.lua
-- Gives 'settled'; 'already': known before, or the permission is used up; 'stale': a later grant is known, so that this only
--       takes away a doubt, or the fence was given to another send as well; 'again': look up the topic again.
-- Guarantee: only the grant of this fence and send is undone. With no unclear try left the permission waits again (lapsed
-- and stopped ones are expired and revoked), parked as the release of the highest fence says.
local p = load()
if elsewhere(p) then return 'again' end
if final(p) then return 'already' end
if own == 0 then return 'stale' end
local cleared = false
for i = #p.unclear, 1, -1 do
  if p.unclear[i].fence == own and p.unclear[i].send == send then
    table.remove(p.unclear, i)
    cleared = true
  end
end
rise(p)
local another = own == p.fence and send ~= p.send
if not cleared and has(p.released, own) then return 'already' end
if not another then p.released = with(p.released, own) end
if own == p.fence and not another then
  p.lease, p.parked = nil, ARGV[6] ~= '' and ARGV[6] or nil
  p.state = rest(p)
elseif p.state ~= 'g' then
  p.state = rest(p)
end
save(p)
return (another or own < p.fence) and 'stale' or 'settled'
