-- Part of every script that changes what people see of an event: what a hold is, how one ends,
-- and how a change is told. redis/scripts.rs puts it before them; their first key must be the
-- event's state, and all other keys lie in the same slot (they share its hash tag).
--
-- event:{id}:state            hash: epoch, version, seq, total, numbered, leased, stale,
--                             closed; unserved is 1: seats are no longer held, and somebody waits
-- event:{id}:taken            bitmap: seats that are sold, by number
-- event:{id}:holds            zset: seats that are held, by deadline (ms of this server's clock)
-- event:{id}:owners           hash: seat -> hold token
-- event:{id}:hold:{seat}      the same token for whoever looks (S4.10); ends with the deadline
-- event:{id}:holder:{token}   hash: user, address, epoch, since, renewals, deadline, parked, s:{session}
-- socket:{token}:event:{id}   set: the seats of that token (S4.12)
-- event:{id}:held_by          hash: "u:{user}", "a:{address}" -> seats held
-- event:{id}:pins             hash: seat -> "{lease}:{deadline}", several with commas: being booked at
--                             this moment; a pinned hold neither ends nor changes hands, whatever
--                             its deadline
-- event:{id}:deltas           channel: each change, once, in order of "v"

local state_key = KEYS[1]
local base = string.sub(state_key, 1, -6)
local tag = string.match(base, '%b{}')
local slots_key, taken_key = base .. 'slots', base .. 'taken'
local holds_key, owners_key, pins_key = base .. 'holds', base .. 'owners', base .. 'pins'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local said, lost = {}, {}

local function holder_of(token)
  return base .. 'holder:' .. token
end

local function seats_of(token)
  return 'socket:' .. token .. ':event:' .. tag
end

-- The pins of a seat that still count, but those of one lease.
local function live_pins(seat, except)
  local live = {}
  for lease, deadline in string.gmatch(redis.call('HGET', pins_key, seat) or '', '(%w+):(%d+)') do
    if tonumber(deadline) > now and lease ~= except then
      live[#live + 1] = lease .. ':' .. deadline
    end
  end
  return live
end

local function pinned(seat)
  return #live_pins(seat) > 0
end

-- Several may book one seat at the same moment: it is pinned until the last of them is decided.
local function pin(seat, lease, deadline)
  local live = live_pins(seat, lease)
  live[#live + 1] = lease .. ':' .. string.format('%.0f', deadline)
  redis.call('HSET', pins_key, seat, table.concat(live, ','))
end

local function unpin(seat, lease)
  local live = live_pins(seat, lease)
  if #live > 0 then
    redis.call('HSET', pins_key, seat, table.concat(live, ','))
  else
    redis.call('HDEL', pins_key, seat)
  end
end

local function count(user, address, by)
  local names = { 'u:' .. user }
  if address ~= '' then
    names[2] = 'a:' .. address
  end
  for _, name in ipairs(names) do
    if redis.call('HINCRBY', base .. 'held_by', name, by) <= 0 then
      redis.call('HDEL', base .. 'held_by', name)
    end
  end
end

local function note_lost(token, seat)
  if token then
    lost[token] = lost[token] or {}
    table.insert(lost[token], tonumber(seat))
  end
end

-- Ends the hold of a seat; answers whose it was.
local function let_go(seat)
  local token = redis.call('HGET', owners_key, seat)
  redis.call('ZREM', holds_key, seat)
  redis.call('HDEL', owners_key, seat)
  redis.call('HDEL', pins_key, seat)
  redis.call('DEL', base .. 'hold:' .. seat)
  if not token then
    return nil
  end
  local who = redis.call('HMGET', holder_of(token), 'user', 'address')
  if who[1] then
    count(who[1], who[2] or '', -1)
  end
  redis.call('SREM', seats_of(token), seat)
  if redis.call('EXISTS', seats_of(token)) == 0 then
    redis.call('DEL', holder_of(token))
  end
  return token
end

-- Ends the holds whose time is over.
local function lapse()
  for _, seat in ipairs(redis.call('ZRANGEBYSCORE', holds_key, '-inf', now)) do
    if not pinned(seat) then
      note_lost(let_go(seat), seat)
      said[seat] = 'released'
    end
  end
end

-- Gives the seats of a token another deadline.
local function set_deadline(token, deadline)
  for _, seat in ipairs(redis.call('SMEMBERS', seats_of(token))) do
    redis.call('ZADD', holds_key, deadline, seat)
    redis.call('SET', base .. 'hold:' .. seat, token, 'PXAT', deadline)
  end
  redis.call('HSET', holder_of(token), 'deadline', deadline)
end

local function sorted_seats(token)
  local seats = redis.call('SMEMBERS', seats_of(token))
  for i, seat in ipairs(seats) do
    seats[i] = tonumber(seat)
  end
  table.sort(seats)
  return seats
end

-- Forgets every hold: they belong to another epoch, or there is nothing to hold any more.
local function forget_holds()
  for _, seat in ipairs(redis.call('ZRANGE', holds_key, 0, -1)) do
    let_go(seat)
  end
  redis.call('DEL', holds_key, owners_key, pins_key, base .. 'held_by')
end

-- What a newcomer can book now: what PostgreSQL left for newcomers, less what is held.
local function available()
  local slots = tonumber(redis.call('GET', slots_key)) or 0
  return math.max(0, slots - redis.call('ZCARD', holds_key))
end

-- Tells what this script changed, under the next version. Numbers are written by hand: cjson
-- would round versions and make objects of empty lists.
local function announce(full)
  -- Whoever waits may get what is no longer held: the sweeper has them served.
  for _, what in pairs(said) do
    if what == 'released' then
      if redis.call('LLEN', base .. 'waitlist') > 0 then
        redis.call('HSET', state_key, 'unserved', 1)
      end
      break
    end
  end
  local state = redis.call('HMGET', state_key, 'epoch', 'total')
  local seq = redis.call('HINCRBY', state_key, 'seq', 1)
  local parts = { string.format('{"v":%.0f', tonumber(state[1]) * 4294967296 + seq) }
  if next(said) then
    local lists = {}
    for seat, what in pairs(said) do
      lists[what] = lists[what] or {}
      table.insert(lists[what], tonumber(seat))
    end
    for what, seats in pairs(lists) do
      table.sort(seats)
      parts[#parts + 1] = '"' .. what .. '":[' .. table.concat(seats, ',') .. ']'
    end
  end
  if next(lost) then
    local tokens = {}
    for token, seats in pairs(lost) do
      table.sort(seats)
      tokens[#tokens + 1] = '"' .. token .. '":[' .. table.concat(seats, ',') .. ']'
    end
    parts[#parts + 1] = '"lost":{' .. table.concat(tokens, ',') .. '}'
  end
  if full then
    parts[#parts + 1] = '"full":true'
  end
  parts[#parts + 1] = string.format('"available":%d,"total":%d}', available(), state[2] or 0)
  redis.call('PUBLISH', base .. 'deltas', table.concat(parts, ','))
end

-- The end of a script: whatever was changed is told, then the reply is given.
local function done(reply)
  if next(said) then
    announce()
  end
  return reply
end

