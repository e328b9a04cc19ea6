-- Events that may have holds and were not looked at for a while; whoever asks looks at them now.
--
-- KEYS[1] holds:events   zset: event ids by when to look at them again (ms of this server's clock)
-- ARGV[1] look again after so many ms   ARGV[2] at most so many
--
-- Replies: {next look, event id...}
--
-- Atomic because of several processes that sweep one is enough.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
local again = now + tonumber(ARGV[1])
for _, event in ipairs(due) do
  redis.call('ZADD', KEYS[1], again, event)
end
return { string.format('%.0f', again), unpack(due) }
