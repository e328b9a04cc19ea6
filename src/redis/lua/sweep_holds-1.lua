-- Ends the holds of an event whose time is over, and tells it.
--
-- KEYS[1] event:{id}:state (all other keys: part_holds.lua)
-- ARGV[1] epoch
--
-- Replies: {how many seats are still held, 1 if seats were let go that somebody waits for}; {0, 0}
-- when the event is unknown or of another epoch: then nothing is held, and whoever rebuilds it
-- forgets the rest.
--
-- Atomic because a seat that is taken anew at this moment must not be freed.

if redis.call('HGET', state_key, 'epoch') ~= ARGV[1] then
  return { 0, 0 }
end
lapse()
if next(said) then
  announce()
end
return { redis.call('ZCARD', holds_key), redis.call('HDEL', state_key, 'unserved') }
