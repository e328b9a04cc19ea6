-- Forgets an event in which nothing is held, unless somebody holds again.
--
-- KEYS[1] holds:events   zset: event ids by when to look at them again
-- ARGV[1] event id   ARGV[2] the next look that was noted; a new hold notes another one
--
-- Replies: 1 if it was forgotten, else 0.
--
-- Atomic because a hold that comes between the look and the removal would never be swept.

local noted = redis.call('ZSCORE', KEYS[1], ARGV[1])
if noted and tonumber(noted) == tonumber(ARGV[2]) then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
