-- What the settling moves (settle_*.lua, check.lua) share: it goes before each of them. The rules are told, readably, in
-- package permission; the fields in ledger.go.
-- KEYS  1 permission  2 waiting list of its topic  3 counts of its topic      (all in one slot)
-- ARGV  1 permission id  2 topic that KEYS 2 and 3 are of  3 send id  4 fence  5 message id ('' for none)
--       6 parked until, ms ('' for not)
-- A permission whose opt-in is not read yet is a stub: it has no field u, no topic, and is counted nowhere.
local send, own = ARGV[3], tonumber(ARGV[4])

-- A set of fences is kept as ranges: '1-3 5'.
local function has(set, n)
  for a, b in string.gmatch(set, '(%d+)%-?(%d*)') do
    if n >= tonumber(a) and n <= tonumber(b ~= '' and b or a) then return true end
  end
  return false
end

local function range(a, b)
  if a == b then return string.format('%d', a) end
  return string.format('%d-%d', a, b)
end

local function with(set, n)
  local from, to, low, high = n, n, {}, {}
  for a, b in string.gmatch(set, '(%d+)%-?(%d*)') do
    a, b = tonumber(a), tonumber(b ~= '' and b or a)
    if b == n - 1 then from = a
    elseif a == n + 1 then to = b
    elseif b < n then low[#low + 1] = range(a, b)
    else high[#high + 1] = range(a, b) end
  end
  low[#low + 1] = range(from, to)
  for _, r in ipairs(high) do low[#low + 1] = r end
  return table.concat(low, ' ')
end

local function load()
  local v = redis.call('HMGET', KEYS[1], 's', 'u', 'o', 'f', 'i', 'j', 'y', 'd', 'h', 'x', 'a', 'm', 'n', 't', 'l')
  local p = {
    was = v[1] or 'w', state = v[1] or 'w', known = v[2], topic = v[3], fence = tonumber(v[4] or '0'), send = v[6] or v[5],
    released = v[8] or '', stopped = v[9], lapses = tonumber(v[10] or '0'), optin = v[11], message = v[12], parked = v[13],
    ended = v[14], lease = v[15], unclear = {},
  }
  -- Each unclear try is '<fence>:<length of its send>:<send>'.
  local text, at = v[7] or '', 1
  while at <= #text do
    local _, last, fence, length = string.find(text, '^(%d+):(%d+):', at)
    if not last then break end
    at = last + 1 + tonumber(length)
    table.insert(p.unclear, {fence = tonumber(fence), send = string.sub(text, last + 1, at - 1)})
  end
  return p
end

-- The topic was looked up before the script ran; if the opt-in came in between, the lists given are not its own.
local function elsewhere(p) return p.known and p.topic ~= ARGV[2] end

-- Spent, void, or lapsed by an outcome: no try or release changes it any more.
local function final(p) return p.state == 's' or p.state == 'v' or (p.state == 'e' and p.ended) end

-- Whether our grant is known to be released. After the loss of Redis the highest fence may have been given to two sends.
local function released(p)
  return has(p.released, own) and not (own == p.fence and send ~= p.send)
end

-- What a permission is when no grant of it is in force.
local function rest(p)
  if p.known then
    local t = redis.call('TIME')
    if t[1] * 1000 + math.floor(t[2] / 1000) >= p.lapses then return 'e' end
  end
  if #p.unclear > 0 then return 'u' end
  if p.stopped then return 'r' end
  return 'w'
end

-- Ends a permission by an outcome.
local function finish(p, state)
  p.state, p.send, p.fence, p.ended = state, send, own, '1'
  p.message = ARGV[5] ~= '' and ARGV[5] or nil
  p.lease, p.parked, p.unclear, p.released = nil, nil, {}, ''
end

-- Takes a fence as the highest, when it is: the grant known here was followed by one of which nothing was known.
local function rise(p)
  if own > p.fence then
    p.fence, p.send, p.lease, p.parked = own, send, nil, nil
    p.state = rest(p)
  end
end

local function save(p)
  table.sort(p.unclear, function(a, b) return a.fence < b.fence or (a.fence == b.fence and a.send < b.send) end)
  local holder, text = p.send, {}
  for _, try in ipairs(p.unclear) do
    text[#text + 1] = string.format('%d:%d:%s', try.fence, #try.send, try.send)
    -- An unclear permission is held by the send whose try is the latest unclear one.
    if p.state == 'u' then holder = try.send end
  end
  local set, gone = {'s', p.state}, {}
  local function keep(field, value)
    if value and value ~= '' then
      set[#set + 1] = field
      set[#set + 1] = value
    else
      gone[#gone + 1] = field
    end
  end
  keep('f', p.fence > 0 and string.format('%.0f', p.fence))
  keep('i', holder)
  keep('j', holder ~= p.send and p.send)
  keep('y', table.concat(text))
  keep('d', p.released)
  keep('m', p.message)
  keep('n', p.parked)
  keep('t', p.ended)
  keep('l', p.lease)
  redis.call('HSET', KEYS[1], unpack(set))
  if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
  if not p.known or p.state == p.was then return end
  redis.call('HINCRBY', KEYS[3], p.was, -1)
  redis.call('HINCRBY', KEYS[3], p.state, 1)
  if p.was == 'w' then redis.call('ZREM', KEYS[2], ARGV[1]) end
  if p.state == 'w' then redis.call('ZADD', KEYS[2], p.optin, ARGV[1]) end
end
