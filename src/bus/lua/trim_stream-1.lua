-- Drops the oldest entries of a stream that every group has acknowledged: those stored before a
-- time, and others while there are too many.
--
-- KEYS[1] the stream
-- ARGV[1] keep what was stored at this time or later (ms)   ARGV[2] keep so many
-- ARGV[3] drop at most so many now
-- ARGV[4] consumers that have nothing and did not ask for so many ms are struck off
-- ARGV[5..n] the groups that must be there
--
-- Replies: how many were dropped, or -1 when a group is missing: then nothing is.
--
-- Atomic because a group that is made meanwhile must still see the beginning.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end

-- Ids are two numbers of up to 20 digits: too long for a number of Lua.
local function digits_before(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end
local function before(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then
    return digits_before(a_ms, b_ms)
  end
  return digits_before(a_seq, b_seq)
end

local missing = {}
for number = 5, #ARGV do
  missing[ARGV[number]] = true
end
-- Whatever is before the bound was acknowledged by all. The last one that was goes with the next.
local bound
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local name, reached = group[2], group[8]
  if group[6] > 0 then
    reached = redis.call('XPENDING', KEYS[1], name)[2]
  end
  if not bound or before(reached, bound) then
    bound = reached
  end
  missing[name] = nil
  for _, who in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], name)) do
    if who[4] == 0 and who[6] > tonumber(ARGV[4]) then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], name, who[2])
    end
  end
end
if next(missing) then
  return -1
end

local keep, left = tonumber(ARGV[2]), tonumber(ARGV[3])
local length = redis.call('XLEN', KEYS[1])
local since = ARGV[1] .. '-0'
local dropped = 0
while left > 0 and length > 0 do
  local upto = bound
  local wanted = math.min(left, 50)
  if length > keep then
    wanted = math.min(wanted, length - keep)
  elseif not upto or before(since, upto) then
    upto = since
  end
  -- Nothing is before the first id, and Redis does not want to be asked.
  if upto == '0-0' then
    break
  end
  local old = redis.call('XRANGE', KEYS[1], '-', upto and '(' .. upto or '+', 'COUNT', wanted)
  if #old == 0 then
    break
  end
  length = length - #old
  redis.call('XTRIM', KEYS[1], 'MAXLEN', length)
  dropped = dropped + #old
  left = left - #old
end
return dropped
