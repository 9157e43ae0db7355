-- Says what a settlement by the holder of a grant would do. Changes nothing.
-- KEYS, ARGV  as in permission.lua; then ARGV 7: 'spend', 'void', 'cloud' or 'release'
-- Gives 'settled': it would; 'already': it was so; 'stale': the fence is not that of the latest grant, or it was
--       settled otherwise; 'missing': there is no such permission.
local p, effect = load(), ARGV[7]
if not p.known then return 'missing' end
if p.state == 's' then return p.send == send and 'already' or 'stale' end
if own ~= p.fence or send ~= p.send then return 'stale' end
if p.state == 'v' then return effect == 'void' and 'already' or 'stale' end
if final(p) then return 'stale' end
if has(p.released, own) then return effect == 'release' and 'already' or 'stale' end
if p.state ~= 'g' and effect == 'cloud' then
  for _, try in ipairs(p.unclear) do
    if try.fence == own and try.send == send then return 'already' end
  end
end
-- Also when the lease is over and the permission has lapsed: that it was used counts.
return 'settled'
