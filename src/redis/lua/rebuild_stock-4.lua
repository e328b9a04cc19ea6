-- Sets an event's counters and queue to what one snapshot of PostgreSQL says.
--
-- KEYS[1] event:{id}:slots   KEYS[2] event:{id}:state
-- KEYS[3] event:{id}:waitlist   KEYS[4] event:{id}:leases
-- ARGV[1] epoch   ARGV[2] version   ARGV[3] available   ARGV[4..] user ids, first in line first
--
-- Replies: "ok" written; "old" Redis knows a later version; "same" nothing was different.
--
-- Atomic because a publication in between would be overwritten by the older snapshot.

local state = redis.call('HMGET', KEYS[2], 'epoch', 'version', 'stale')
local same_epoch = state[1] == ARGV[1]
if same_epoch then
  local known = tonumber(state[2])
  local asked = tonumber(ARGV[2])
  if known > asked then
    return 'old'
  end
  local complete = state[3] ~= '1' and redis.call('LLEN', KEYS[3]) == #ARGV - 3
  if known == asked and complete and redis.call('GET', KEYS[1]) == ARGV[3] then
    return 'same'
  end
else
  redis.call('DEL', KEYS[4])
  redis.call('HSET', KEYS[2], 'leased', 0)
end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'version', ARGV[2], 'stale', 0)
redis.call('DEL', KEYS[3])
-- unpack() is bounded by Lua's stack.
for i = 4, #ARGV, 1000 do
  redis.call('RPUSH', KEYS[3], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return 'ok'
