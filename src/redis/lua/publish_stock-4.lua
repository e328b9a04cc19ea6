-- Tells Redis what a commit left of an event's seats and how the queue changed, and settles the
-- leases of the requests that were decided in it.
--
-- KEYS[1] event:{id}:slots      integer: seats available to newcomers
-- KEYS[2] event:{id}:state      hash: epoch, version, leased, stale
-- KEYS[3] event:{id}:waitlist   list of user ids, first in line first
-- KEYS[4] event:{id}:leases     zset: "<lease>:<seats>" by deadline
-- ARGV[1] epoch   ARGV[2] version before the commit   ARGV[3] version after it
-- ARGV[4] available now       (version "0": nothing changed, only leases are settled)
-- ARGV[5] number of leases, then their names
-- then pairs: "j" (joined) or "l" (left), user id
--
-- Replies: "ok"     written;
--          "old"    a later commit was published already: nothing to write;
--          "stale"  counters written, but commits in between are missing: rebuild the queue.
--
-- Atomic because counters, version and queue are one statement about one commit. The counters are
-- absolute, so a lost or repeated publication leaves no drift.

local at = 6
for _ = 1, tonumber(ARGV[5]) do
  local prefix = ARGV[at] .. ':'
  at = at + 1
  for _, lease in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    if string.sub(lease, 1, #prefix) == prefix then
      redis.call('ZREM', KEYS[4], lease)
      redis.call('HINCRBY', KEYS[2], 'leased', -tonumber(string.sub(lease, #prefix + 1)))
    end
  end
end

if ARGV[3] == '0' then
  return 'ok'
end
local state = redis.call('HMGET', KEYS[2], 'epoch', 'version', 'stale')
local same_epoch = state[1] == ARGV[1]
if not same_epoch then
  redis.call('DEL', KEYS[3], KEYS[4])
  redis.call('HSET', KEYS[2], 'leased', 0)
elseif tonumber(state[2]) >= tonumber(ARGV[3]) then
  return 'old'
end
redis.call('SET', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'version', ARGV[3])
if not same_epoch or state[2] ~= ARGV[2] or state[3] == '1' then
  redis.call('HSET', KEYS[2], 'stale', 1)
  return 'stale'
end
for i = at, #ARGV, 2 do
  if ARGV[i] == 'j' then
    redis.call('RPUSH', KEYS[3], ARGV[i + 1])
  else
    redis.call('LREM', KEYS[3], 1, ARGV[i + 1])
  end
end
return 'ok'
