-- Hands entries of a stream to a consumer of a group: its own from before it was started again,
-- then those whose retry is due, then those that somebody let lie, then new ones.
--
-- KEYS[1] the stream
-- KEYS[2] {stream}:due:group   zset: entries that wait to be retried, by when (ms of this clock)
-- ARGV[1] group   ARGV[2] consumer   ARGV[3] at most so many
-- ARGV[4] as soon as this many bytes are reached no more are added
-- ARGV[5] longest body
-- ARGV[6] own ones behind this id ('-' for all, '' when they have all been handed out)
-- ARGV[7] claim what lies for so many ms (0: do not look now)
--
-- Replies: {own ones left behind this id or '', ms until the next retry is due or -1, entries that
-- were pending and are not on the stream any more, {id, attempt, length, body, ...}}
--
-- Atomic because a retry must not be handed to two consumers, and what waits for its retry (it is
-- pending for '(waiting)') must be in KEYS[2].

local group, consumer, max = ARGV[1], ARGV[2], tonumber(ARGV[3])
local bytes_max, limit = tonumber(ARGV[4]), tonumber(ARGV[5])
local WAITING = '(waiting)'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local taken, gone = 0, 0

local function room()
  if bytes >= bytes_max then
    return 0
  end
  return math.min(max - taken, 100)
end

-- Takes over pending ones, and forgets those that are not on the stream any more (Redis 6 does
-- not do that by itself).
local function claim(pending)
  for _, one in ipairs(pending) do
    local got = redis.call('XCLAIM', KEYS[1], group, consumer, 0, one[1])
    if got[1] then
      put(one[1], one[4] + 1, got[1][2], limit)
      taken = taken + 1
    else
      redis.call('XACK', KEYS[1], group, one[1])
      gone = gone + 1
    end
  end
end

local own = ARGV[6]
while own ~= '' and room() > 0 do
  local from = own == '-' and '-' or '(' .. own
  local wanted = room()
  local pending = redis.call('XPENDING', KEYS[1], group, from, '+', wanted, consumer)
  claim(pending)
  own = #pending == wanted and pending[#pending][1] or ''
end

while room() > 0 do
  local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, room())
  if #due == 0 then
    break
  end
  for _, id in ipairs(due) do
    claim(redis.call('XPENDING', KEYS[1], group, id, id, 1))
    redis.call('ZREM', KEYS[2], id)
  end
end

local idle = tonumber(ARGV[7])
if idle > 0 and room() > 0 then
  -- Nothing is due for those that wait if their due times were lost: then they just lie there.
  local lost = redis.call('EXISTS', KEYS[2]) == 0
  for _, who in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group)) do
    local name, pending = who[2], who[4]
    local wanted = room()
    if wanted > 0 and pending > 0 and (name ~= WAITING or lost) then
      claim(redis.call('XPENDING', KEYS[1], group, 'IDLE', idle, '-', '+', wanted, name))
    end
  end
end

while room() > 0 do
  local wanted = math.min(room(), 16)
  local read =
    redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted, 'STREAMS', KEYS[1], '>')
  if not read then
    break
  end
  for _, entry in ipairs(read[1][2]) do
    put(entry[1], 1, entry[2], limit)
    taken = taken + 1
  end
  if #read[1][2] < wanted then
    break
  end
end

local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local next_due = first[2] and math.max(0, tonumber(first[2]) - now) or -1
return { own, next_due, gone, entries }
