-- Lets entries that a consumer has wait until they are handed out again.
--
-- KEYS[1] the stream
-- KEYS[2] {stream}:due:group   zset: entries that wait to be retried, by when (ms of this clock)
-- ARGV[1] group   ARGV[2] consumer   ARGV[3], ARGV[4] ... pairs: id, after so many ms
--
-- Replies: how many wait now. Those that the consumer does not have (any more) are left alone.
--
-- Atomic because what is pending for '(waiting)' must be in KEYS[2], or nobody comes for it.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.ceil(clock[2] / 1000)
local waiting = 0
for pair = 3, #ARGV, 2 do
  local id = ARGV[pair]
  if redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])[1] then
    -- Those that wait equally long come again in this order.
    local rank = math.min(waiting, 1999) / 2000
    redis.call('ZADD', KEYS[2], now + ARGV[pair + 1] + rank, id)
    redis.call('XCLAIM', KEYS[1], ARGV[1], '(waiting)', 0, id, 'JUSTID')
    waiting = waiting + 1
  end
end
return waiting
