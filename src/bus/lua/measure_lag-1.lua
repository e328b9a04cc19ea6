-- Tells how far a group is behind.
--
-- KEYS[1] the stream
-- ARGV[1] group   ARGV[2] count at most so many by hand
--
-- Replies: {length, pending, lag, ms since the oldest unacknowledged one was stored or -1, last id,
-- consumers}, or nothing when there is no such group.
--
-- Atomic because the numbers have to belong together.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local found = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[1]) or {}
for _, group in ipairs(found) do
  if group[2] == ARGV[1] then
    local pending, reached, lag = group[6], group[8], group[12]
    local length = redis.call('XLEN', KEYS[1])
    local next_one = redis.call('XRANGE', KEYS[1], '(' .. reached, '+', 'COUNT', 1)[1]
    if not lag then
      -- Redis does not know after single entries were deleted.
      lag = 0
      local from = '(' .. reached
      while lag < tonumber(ARGV[2]) do
        local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 100)
        lag = lag + #page
        if #page < 100 then
          break
        end
        from = '(' .. page[#page][1]
      end
    end
    local oldest = next_one and next_one[1]
    if pending > 0 then
      oldest = redis.call('XPENDING', KEYS[1], ARGV[1])[2]
    end
    local age = -1
    if oldest then
      age = math.max(0, now - tonumber(string.match(oldest, '^%d+')))
    end
    local consumers = 0
    for _, who in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
      if who[2] ~= '(waiting)' then
        consumers = consumers + 1
      end
    end
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    return { length, pending, lag, age, last and last[1] or '', consumers }
  end
end
return {}
