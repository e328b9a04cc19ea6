-- Shows entries as they lie on a stream, for nobody's group.
--
-- KEYS[1] the stream
-- ARGV[1] from this id ('-' for the first, '(' before it for those behind it)
-- ARGV[2] at most so many   ARGV[3] as soon as this many bytes are reached no more are added
-- ARGV[4] longest body
--
-- Replies: {id, 0, length, body, ...}; empty only at the end of the stream.
--
-- Atomic because it only reads, a page at a time, so that long bodies do not add up.

local from, left = ARGV[1], tonumber(ARGV[2])
while left > 0 and bytes < tonumber(ARGV[3]) do
  local wanted = math.min(left, 16)
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', wanted)
  for _, entry in ipairs(page) do
    put(entry[1], 0, entry[2], tonumber(ARGV[4]))
    from = '(' .. entry[1]
  end
  left = left - #page
  if #page < wanted then
    break
  end
end
return entries
