-- Holds numbered seats for a token: all of those that are wanted, or none.
--
-- KEYS[1] event:{id}:state (all other keys: part_holds.lua)
-- ARGV[1] epoch   ARGV[2] "new": a first hold; repeated, it answers as the first time did.
--                         "set": the full wanted set; other seats of the token are let go.
-- ARGV[3] token   ARGV[4] user   ARGV[5] address, or ""   ARGV[6] session, or ""
-- ARGV[7] life in ms   ARGV[8] most age in ms
-- ARGV[9] most seats of a user   ARGV[10] of an address   ARGV[11] of the event
-- ARGV[12..] seats
--
-- Replies: {"held", now, deadline, renewals, seat...}
--          {"conflict", seat...}   somebody else's, sold, or none of the event's
--          {"sold_out"}   fewer seats are left to newcomers
--          {"user"}, {"address"}, {"event"}   a quota is used up
--          {"foreign"}   the token is another user's
--          {"closed"}   the event was cancelled
--          {"cold"}   unknown, or of another epoch
--
-- Atomic because two who want overlapping sets must not both have a part.

local state = redis.call('HMGET', state_key, 'epoch', 'total', 'numbered', 'closed')
local slots = tonumber(redis.call('GET', slots_key))
if state[1] ~= ARGV[1] or state[3] ~= '1' or not slots then
  return { 'cold' }
elseif state[4] == '1' then
  return { 'closed' }
end
lapse()

local token, user, address, session = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local holder = holder_of(token)
local known = redis.call('HMGET', holder, 'user', 'address', 'since', 'renewals', 'deadline')
local function held()
  local now_known = redis.call('HMGET', holder, 'renewals', 'deadline')
  local reply = { 'held', now, tonumber(now_known[2]) or now, tonumber(now_known[1]) or 0 }
  for _, seat in ipairs(sorted_seats(token)) do
    reply[#reply + 1] = seat
  end
  return reply
end
if known[1] and known[1] ~= user then
  return done({ 'foreign' })
elseif known[1] and ARGV[2] == 'new' then
  return done(held())
elseif known[1] then
  address = known[2]
end

local wanted, fresh, conflicts = {}, {}, {}
for i = 12, #ARGV do
  local seat = ARGV[i]
  wanted[seat] = true
  local owner = redis.call('HGET', owners_key, seat)
  if owner ~= token then
    local gone = owner or tonumber(seat) > tonumber(state[2])
      or redis.call('GETBIT', taken_key, seat) == 1 or pinned(seat)
    table.insert(gone and conflicts or fresh, seat)
  end
end
if #conflicts > 0 then
  return done({ 'conflict', unpack(conflicts) })
end
local unwanted = {}
for _, seat in ipairs(redis.call('SMEMBERS', seats_of(token))) do
  if not wanted[seat] and not pinned(seat) then
    unwanted[#unwanted + 1] = seat
  end
end

local more, all = #fresh - #unwanted, redis.call('ZCARD', holds_key)
if more > 0 then
  local function has(name)
    return tonumber(redis.call('HGET', base .. 'held_by', name)) or 0
  end
  -- The seats are free one by one; none is left to newcomers while somebody waits.
  if more > slots - all then
    return done({ 'sold_out' })
  elseif has('u:' .. user) + more > tonumber(ARGV[9]) then
    return done({ 'user' })
  elseif address ~= '' and has('a:' .. address) + more > tonumber(ARGV[10]) then
    return done({ 'address' })
  elseif all + more > tonumber(ARGV[11]) then
    return done({ 'event' })
  end
end

local since = tonumber(known[3]) or now
if #fresh > 0 then
  -- First those that come, then those that go: a holder without a seat would be forgotten.
  count(user, address, #fresh)
  for _, seat in ipairs(fresh) do
    redis.call('HSET', owners_key, seat, token)
    redis.call('SADD', seats_of(token), seat)
    said[seat] = 'held'
  end
  local deadline = math.min(now + tonumber(ARGV[7]), since + tonumber(ARGV[8]))
  redis.call('HSET', holder, 'user', user, 'address', address, 'epoch', ARGV[1], 'since', since,
    'renewals', known[4] or 0)
  redis.call('HDEL', holder, 'parked')
  set_deadline(token, deadline)
end
for _, seat in ipairs(unwanted) do
  let_go(seat)
  said[seat] = 'released'
end
if session ~= '' and redis.call('EXISTS', holder) == 1 then
  redis.call('HSET', holder, 's:' .. session, 1)
end
return done(held())
