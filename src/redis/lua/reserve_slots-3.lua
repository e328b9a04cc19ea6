-- Lets requests for seats of one event through to the desk, or refuses them early.
--
-- KEYS[1] event:{id}:slots    integer: seats available to newcomers, as PostgreSQL last said
-- KEYS[2] event:{id}:state    hash: epoch, version, leased
-- KEYS[3] event:{id}:leases   zset: "<lease>:<seats>" by deadline (ms)
-- ARGV[1] epoch that the caller trusts
-- ARGV[2] lease name (one for all requests of this call)
-- ARGV[3] lease life in ms
-- ARGV[4..] pairs: seats, "1" if the party would wait
--
-- Replies: nil when cold (unknown, or of another epoch): ask PostgreSQL.
--          otherwise a string with one character a request: "+" enough seats, leased;
--          "w" too few, but it would wait; "-" refused: sold out.
--
-- Atomic because what is free is slots minus live leases: two callers that read the two apart
-- would both be let through for the same seat. (PostgreSQL would still refuse one of them.)

local state = redis.call('HMGET', KEYS[2], 'epoch', 'leased')
local slots = tonumber(redis.call('GET', KEYS[1]))
if state[1] ~= ARGV[1] or not slots then
  return nil
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local leased = tonumber(state[2]) or 0
if leased > 0 then
  -- A lease that nobody settled gives its seats back, once.
  local lapsed = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)
  for _, lease in ipairs(lapsed) do
    redis.call('ZREM', KEYS[3], lease)
    leased = leased - tonumber(string.match(lease, ':(%d+)$'))
  end
  if #lapsed > 0 then
    redis.call('HSET', KEYS[2], 'leased', leased)
  end
end

local free = slots - leased
local granted = 0
local answer = {}
for i = 4, #ARGV, 2 do
  local seats = tonumber(ARGV[i])
  if seats <= free then
    free = free - seats
    granted = granted + seats
    answer[#answer + 1] = '+'
  elseif ARGV[i + 1] == '1' then
    answer[#answer + 1] = 'w'
  else
    answer[#answer + 1] = '-'
  end
end
if granted > 0 then
  redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[2] .. ':' .. granted)
  redis.call('HINCRBY', KEYS[2], 'leased', granted)
end
return table.concat(answer)
