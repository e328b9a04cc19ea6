-- Appends messages to a stream, in order, up to the first one that Redis does not take.
--
-- KEYS[1] the stream
-- ARGV[1..n] the bodies
--
-- Replies: {why the next one was not taken or '', id...}
--
-- Atomic because none may be stored behind one that was not: order is kept per stream.

local reply = { '' }
for number = 1, #ARGV do
  local id = redis.pcall('XADD', KEYS[1], '*', 'data', ARGV[number])
  if type(id) == 'table' then
    reply[1] = id.err
    break
  end
  reply[number + 1] = id
end
return reply
