-- A session that showed a token's holds went away, or came (back): once the last one is gone, the
-- seats are kept for a short grace only.
--
-- KEYS[1] event:{id}:state (all other keys: part_holds.lua)
-- ARGV[1] epoch   ARGV[2] token   ARGV[3] user   ARGV[4] session
-- ARGV[5] grace in ms; "": the session came
--
-- Replies: {"held", now, deadline, renewals, seat...}, or {"gone"}.
--
-- Atomic because a session that leaves late must not shorten what another came back to.

if redis.call('HGET', state_key, 'epoch') ~= ARGV[1] then
  return { 'gone' }
end
lapse()
local token, holder, session = ARGV[2], holder_of(ARGV[2]), 's:' .. ARGV[4]
if redis.call('HGET', holder, 'user') ~= ARGV[3] then
  return done({ 'gone' })
end
local parked = redis.call('HGET', holder, 'parked')
if ARGV[5] == '' then
  redis.call('HSET', holder, session, 1)
  if parked then
    redis.call('HDEL', holder, 'parked')
    set_deadline(token, tonumber(parked))
  end
elseif redis.call('HDEL', holder, session) == 1 and not parked then
  local others = false
  for _, field in ipairs(redis.call('HKEYS', holder)) do
    others = others or string.sub(field, 1, 2) == 's:'
  end
  if not others then
    local deadline = tonumber(redis.call('HGET', holder, 'deadline'))
    redis.call('HSET', holder, 'parked', deadline)
    set_deadline(token, math.min(deadline, now + tonumber(ARGV[5])))
  end
end
local known = redis.call('HMGET', holder, 'deadline', 'renewals')
local reply = { 'held', now, tonumber(known[1]), tonumber(known[2]) }
for _, seat in ipairs(sorted_seats(token)) do
  reply[#reply + 1] = seat
end
return done(reply)
