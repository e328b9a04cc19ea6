-- Sets an event's counters, sold seats and queue to what one snapshot of PostgreSQL says.
--
-- KEYS[1] event:{id}:state   KEYS[2] event:{id}:slots
-- KEYS[3] event:{id}:waitlist   KEYS[4] event:{id}:leases
-- ARGV[1] epoch   ARGV[2] version   ARGV[3] available   ARGV[4] all seats
-- ARGV[5] "1" if seats have numbers   ARGV[6] bitmap of those sold, without zero bytes at its end
-- ARGV[7] how many are sold   ARGV[8..] user ids, first in line first
--
-- Replies: "ok" written; "old" Redis knows a later version; "same" nothing was different.
--
-- Atomic because a publication in between would be overwritten by the older snapshot.

local state = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'stale', 'total')
local same_epoch = state[1] == ARGV[1]
local numbered = ARGV[5] == '1'
local function same_seats()
  return redis.call('BITCOUNT', taken_key) == tonumber(ARGV[7])
    and (#ARGV[6] == 0 or redis.call('GETRANGE', taken_key, 0, #ARGV[6] - 1) == ARGV[6])
end
if same_epoch then
  local known = tonumber(state[2])
  local asked = tonumber(ARGV[2])
  if known > asked then
    return 'old'
  end
  local complete = (state[3] or '0') == '0' and redis.call('LLEN', KEYS[3]) == #ARGV - 7
    and state[4] == ARGV[4] and (not numbered or same_seats())
  if known == asked and complete and redis.call('GET', KEYS[2]) == ARGV[3] then
    return 'same'
  end
else
  if state[1] and tonumber(state[1]) > tonumber(ARGV[1]) then
    -- Who asks has not heard of the new epoch yet.
    return 'old'
  end
  forget_holds()
  redis.call('DEL', KEYS[4])
  redis.call('HSET', KEYS[1], 'leased', 0, 'seq', 0)
end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'version', ARGV[2], 'stale', 0, 'total', ARGV[4],
  'numbered', ARGV[5])
redis.call('DEL', KEYS[3])
-- unpack() is bounded by Lua's stack.
for i = 8, #ARGV, 1000 do
  redis.call('RPUSH', KEYS[3], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
if numbered then
  redis.call('SET', taken_key, ARGV[6])
  lapse()
  for _, seat in ipairs(redis.call('ZRANGE', holds_key, 0, -1)) do
    local sold = redis.call('GETBIT', taken_key, seat) == 1
    if sold or tonumber(seat) > tonumber(ARGV[4]) then
      local converted = pinned(seat)
      local token = let_go(seat)
      if not converted then
        note_lost(token, seat)
      end
      said[seat] = sold and 'taken' or 'released'
    end
  end
end
announce(true)
return 'ok'
