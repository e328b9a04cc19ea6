-- Lets go what a token holds: compare and release.
--
-- KEYS[1] event:{id}:state (all other keys: part_holds.lua)
-- ARGV[1] epoch   ARGV[2] token   ARGV[3] user
--
-- Replies: "released", "gone" (nothing was held), "foreign" (another user's).
--
-- Atomic because between a look at the owner and the release the seat may become another's.

if redis.call('HGET', state_key, 'epoch') ~= ARGV[1] then
  return 'gone'
end
lapse()
local owner = redis.call('HGET', holder_of(ARGV[2]), 'user')
if not owner then
  return done('gone')
elseif owner ~= ARGV[3] then
  return done('foreign')
end
for _, seat in ipairs(redis.call('SMEMBERS', seats_of(ARGV[2]))) do
  if pinned(seat) then
    -- It is being booked: if that fails, the hold ends then.
    redis.call('ZADD', holds_key, now, seat)
  else
    let_go(seat)
    said[seat] = 'released'
  end
end
return done('released')
