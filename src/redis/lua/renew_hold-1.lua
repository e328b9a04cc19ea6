-- Gives the seats of a token more time.
--
-- KEYS[1] event:{id}:state (all other keys: part_holds.lua)
-- ARGV[1] epoch   ARGV[2] token   ARGV[3] user
-- ARGV[4] life in ms   ARGV[5] most age in ms   ARGV[6] most renewals
--
-- Replies: {"held", now, deadline, renewals, seat...}
--          {"gone"}   expired, released, of another epoch, or another user's
--          {"exhausted"}   renewed as often, or as old, as it may be
--
-- Atomic because a hold that expires at this moment is either renewed or gone.

if redis.call('HGET', state_key, 'epoch') ~= ARGV[1] then
  return { 'gone' }
end
lapse()
local token, holder = ARGV[2], holder_of(ARGV[2])
local known = redis.call('HMGET', holder, 'user', 'since', 'renewals', 'deadline')
if known[1] ~= ARGV[3] then
  return done({ 'gone' })
end
local old, renewals = tonumber(known[4]), tonumber(known[3])
local deadline = math.min(now + tonumber(ARGV[4]), tonumber(known[2]) + tonumber(ARGV[5]))
if renewals >= tonumber(ARGV[6]) or deadline <= old then
  return done({ 'exhausted' })
end
redis.call('HSET', holder, 'renewals', renewals + 1)
redis.call('HDEL', holder, 'parked')
set_deadline(token, deadline)
local reply = { 'held', now, deadline, renewals + 1 }
for _, seat in ipairs(sorted_seats(token)) do
  reply[#reply + 1] = seat
end
return done(reply)
