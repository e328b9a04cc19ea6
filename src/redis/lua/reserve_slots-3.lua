-- Lets requests for seats of one event through to the desk, or refuses them early. Numbered seats
-- that are let through are pinned: until they are settled nobody else gets or holds them.
--
-- KEYS[1] event:{id}:state    hash: epoch, total, numbered, leased
-- KEYS[2] event:{id}:slots    integer: seats available to newcomers, as PostgreSQL last said
-- KEYS[3] event:{id}:leases   zset: "<lease>:<seats>" by deadline (ms)
-- ARGV[1] epoch that the caller trusts
-- ARGV[2] lease name (one for all requests of this call)
-- ARGV[3] lease life in ms   ARGV[4] life of a pin in ms
-- ARGV[5..] requests, each one of
--   seats, "1" if the party would wait                  so many, whichever
--   "c", "1" if it would wait, how many, seats...       these
--   "h", token, user, how many, seats...                these, which the token holds
--
-- Replies: nil when cold (unknown, or of another epoch): ask PostgreSQL.
--          otherwise {verdicts, lists...}: one character a request, those in capitals with a list
--          of seats ("1,2"): "+" enough seats, leased (and pinned, if it chose);
--          "P" enough, and these are pinned for it; "h" its holds are pinned;
--          "w" too few, but it would wait; "-" refused: sold out;
--          "S" refused: these are sold or held by somebody else; "x" refused: they are not held by it;
--          "?" the desk will tell.
--
-- Atomic because what is free is slots minus live leases and holds: two callers that read them
-- apart would both be let through for the same seat. (PostgreSQL would still refuse one of them.)

local state = redis.call('HMGET', KEYS[1], 'epoch', 'leased', 'numbered', 'total')
local slots = tonumber(redis.call('GET', KEYS[2]))
if state[1] ~= ARGV[1] or not slots then
  return nil
end

local leased = tonumber(state[2]) or 0
if leased > 0 then
  -- A lease that nobody settled gives its seats back, once.
  local lapsed = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)
  for _, lease in ipairs(lapsed) do
    redis.call('ZREM', KEYS[3], lease)
    leased = leased - tonumber(string.match(lease, ':(%d+)$'))
  end
  if #lapsed > 0 then
    redis.call('HSET', KEYS[1], 'leased', leased)
  end
end

local numbered, total = state[3] == '1', tonumber(state[4]) or 0
local unheld = slots
if numbered then
  lapse()
  unheld = slots - redis.call('ZCARD', holds_key)
end
local free = unheld - leased
local granted = 0
local verdicts, lists = {}, {}

local function say(verdict, seats)
  verdicts[#verdicts + 1] = verdict
  if seats then
    lists[#lists + 1] = table.concat(seats, ',')
  end
end

local function pin_all(seats)
  for _, seat in ipairs(seats) do
    pin(seat, ARGV[2], now + tonumber(ARGV[4]))
  end
end

-- The lowest seats that are nobody's. Nothing below the cursor is free any more.
local bits, cursor
local function lowest(wanted)
  if not bits then
    bits = redis.call('GET', taken_key) or ''
    cursor = 1
  end
  local found = {}
  while #found < wanted and cursor <= total do
    local byte = string.byte(bits, math.floor(cursor / 8) + 1) or 0
    if byte == 255 then
      cursor = (math.floor(cursor / 8) + 1) * 8
    else
      local sold = math.floor(byte / 2 ^ (7 - cursor % 8)) % 2 == 1
      if not sold and redis.call('HEXISTS', owners_key, cursor) == 0 and not pinned(cursor) then
        found[#found + 1] = cursor
      end
      cursor = cursor + 1
    end
  end
  return #found == wanted and found
end

-- A seat that somebody else is booking at this moment is not refused: their booking may fail, or
-- they may be this party's own first try, cut off. PostgreSQL decides.
local function choose(waits, seats)
  local gone, foreign, fresh = {}, not numbered, 0
  for _, seat in ipairs(seats) do
    if foreign or tonumber(seat) > total then
      foreign = true
    elseif redis.call('GETBIT', taken_key, seat) == 1
      or redis.call('EXISTS', base .. 'hold:' .. seat) == 1
      or redis.call('HEXISTS', owners_key, seat) == 1 then
      gone[#gone + 1] = seat
    elseif not pinned(seat) then
      fresh = fresh + 1
    end
  end
  if foreign then
    say('?')
  elseif #gone > 0 then
    say('S', gone)
  elseif #seats <= unheld then
    -- The seats are free one by one; those that are pinned already are leased already.
    free = free - fresh
    granted = granted + fresh
    pin_all(seats)
    say('+')
  else
    say(waits == '1' and 'w' or '-')
  end
end

local function convert(token, user, seats)
  -- Other programs may hold by the documented key alone: then nobody knows whose token it is.
  local holder = redis.call('HGET', holder_of(token), 'user')
  local owns = numbered and (not holder or holder == user)
  for _, seat in ipairs(seats) do
    local owner = redis.call('HGET', owners_key, seat)
      or redis.call('GET', base .. 'hold:' .. seat)
    owns = owns and owner == token
  end
  if owns then
    pin_all(seats)
  end
  say(owns and 'h' or 'x')
end

local i = 5
local function rest(from)
  local seats = {}
  for n = 1, tonumber(ARGV[from]) do
    seats[n] = ARGV[from + n]
  end
  i = from + #seats + 1
  return seats
end
while i <= #ARGV do
  if ARGV[i] == 'c' then
    choose(ARGV[i + 1], rest(i + 2))
  elseif ARGV[i] == 'h' then
    convert(ARGV[i + 1], ARGV[i + 2], rest(i + 3))
  else
    local seats = tonumber(ARGV[i])
    if seats <= free then
      free = free - seats
      granted = granted + seats
      local found = numbered and lowest(seats)
      if found then
        pin_all(found)
        say('P', found)
      else
        say('+')
      end
    else
      say(ARGV[i + 1] == '1' and 'w' or '-')
    end
    i = i + 2
  end
end
if granted > 0 then
  redis.call('ZADD', KEYS[3], now + tonumber(ARGV[3]), ARGV[2] .. ':' .. granted)
  redis.call('HINCRBY', KEYS[1], 'leased', granted)
end
return done({ table.concat(verdicts), unpack(lists) })
