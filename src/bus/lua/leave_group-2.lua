-- Gives what a consumer has back to its group at once, and strikes its name off.
--
-- KEYS[1] the stream
-- KEYS[2] {stream}:due:group   zset: entries that wait to be retried, by when (ms of this clock)
-- ARGV[1] group   ARGV[2] consumer   ARGV[3] at most so many
--
-- Replies: how many were given back. With as many as ARGV[3] there may be more.
--
-- Atomic because a consumer that is struck off takes with it what is pending for it.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[3], ARGV[2])
for _, one in ipairs(pending) do
  -- Due at once, in the order of the stream: of one score the set would go by the letters of ids.
  local ms, seq = string.match(one[1], '^(%d+)-(%d+)$')
  local score = math.min(now, tonumber(ms)) + math.min(tonumber(seq), 1999) / 2000
  redis.call('ZADD', KEYS[2], score, one[1])
  redis.call('XCLAIM', KEYS[1], ARGV[1], '(waiting)', 0, one[1], 'JUSTID')
end
if #pending < tonumber(ARGV[3]) then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return #pending
