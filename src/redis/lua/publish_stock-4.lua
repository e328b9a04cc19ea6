-- Tells Redis what a commit left of an event's seats and how the queue changed, settles the
-- leases of the requests that were decided in it, and tells everybody who watches.
--
-- KEYS[1] event:{id}:state      hash: epoch, version, seq, total, numbered, leased, stale, closed;
--                               stale is 1: the queue misses commits; 2: its order is in doubt
-- KEYS[2] event:{id}:slots      integer: seats available to newcomers
-- KEYS[3] event:{id}:waitlist   list of user ids, first in line first
-- KEYS[4] event:{id}:leases     zset: "<lease>:<seats>" by deadline
-- ARGV[1] epoch   ARGV[2] version before the commit   ARGV[3] version after it
-- ARGV[4] available now       (version "0": nothing changed, only leases are settled)
-- ARGV[5] all seats   ARGV[6] "1": the event is off, nothing can be held any more
-- ARGV[7] number of leases; each: its name, how many seats it pins, the seats
-- then how many seats were freed, the seats; how many were taken, the seats
-- then pairs: "j" (joined) or "l" (left), user id
--
-- Replies: "ok"     written;
--          "old"    a later commit was published already: nothing to write;
--          "stale"  commits in between are missing, or the event is unknown: rebuild it.
--
-- Atomic because counters, version, seats and queue are one statement about one commit. Counters
-- and seats are absolute, so a lost or repeated publication leaves no drift.

local at = 7
local function next_list()
  local list = {}
  for i = 1, tonumber(ARGV[at]) do
    list[i] = ARGV[at + i]
  end
  at = at + #list + 1
  return list
end

local pins = {}
local leases = tonumber(ARGV[at])
at = at + 1
for _ = 1, leases do
  local name = ARGV[at]
  at = at + 1
  pins[name] = next_list()
  local prefix = name .. ':'
  for _, lease in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    if string.sub(lease, 1, #prefix) == prefix then
      redis.call('ZREM', KEYS[4], lease)
      redis.call('HINCRBY', KEYS[1], 'leased', -tonumber(string.sub(lease, #prefix + 1)))
    end
  end
end
-- What was booked or refused is not being booked any more; an old deadline counts again.
local function settle()
  for name, seats in pairs(pins) do
    for _, seat in ipairs(seats) do
      unpin(seat, name)
    end
  end
  lapse()
end

local state = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'stale', 'numbered', 'total')
local numbered = state[4] == '1'
if state[1] ~= ARGV[1] then
  return ARGV[3] == '0' and 'ok' or 'stale'
end
if ARGV[3] == '0' then
  if numbered then
    settle()
  end
  return done('ok')
end
local old = tonumber(state[2]) >= tonumber(ARGV[3])

local freed, taken = next_list(), next_list()
if numbered and not old then
  for _, seat in ipairs(freed) do
    redis.call('SETBIT', taken_key, seat, 0)
    said[seat] = 'freed'
  end
end
-- While a rebuild is on its way, too many sold seats do no harm; too few would be held again.
if numbered and (not old or state[3] == '1') then
  for _, seat in ipairs(taken) do
    redis.call('SETBIT', taken_key, seat, 1)
    if redis.call('HEXISTS', owners_key, seat) == 1 then
      local converted = pinned(seat)
      local token = let_go(seat)
      if not converted then
        note_lost(token, seat)
      end
    else
      redis.call('DEL', base .. 'hold:' .. seat)
    end
    said[seat] = 'taken'
  end
end
if old then
  if numbered then
    settle()
  end
  if next(said) then
    announce(state[3] == '1')
  end
  return 'old'
end

redis.call('SET', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'total', ARGV[5])
if numbered then
  settle()
  if ARGV[6] == '1' then
    redis.call('HSET', KEYS[1], 'closed', 1)
  end
  local all, total = ARGV[6] == '1', tonumber(ARGV[5])
  if all or total < tonumber(state[5]) then
    for _, seat in ipairs(redis.call('ZRANGE', holds_key, 0, -1)) do
      if (all or tonumber(seat) > total) and not pinned(seat) then
        note_lost(let_go(seat), seat)
        said[seat] = 'released'
      end
    end
  end
end
-- What is missing is not told: whoever watches has to look.
local stale = state[2] ~= ARGV[2] or state[3] == '1'
announce(stale)
if stale then
  redis.call('HSET', KEYS[1], 'stale', 1)
  return 'stale'
end
local joined = false
for i = at, #ARGV, 2 do
  if ARGV[i] == 'j' then
    redis.call('RPUSH', KEYS[3], ARGV[i + 1])
    joined = true
  else
    if #redis.call('LPOS', KEYS[3], ARGV[i + 1], 'COUNT', 2) > 1 then
      -- Several parties of one person wait, and nobody says here which of them has left.
      redis.call('HSET', KEYS[1], 'stale', 2)
    end
    redis.call('LREM', KEYS[3], 1, ARGV[i + 1])
  end
end
if joined and numbered then
  -- They were told to wait because of what was held then: it may be no longer.
  local free = tonumber(ARGV[5]) - redis.call('BITCOUNT', taken_key)
  if free > redis.call('ZCARD', holds_key) then
    redis.call('HSET', KEYS[1], 'unserved', 1)
  end
end
return 'ok'
