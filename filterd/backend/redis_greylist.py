"""`limits.greylist` once more, in Lua, for `redis_store`: one test suite holds both to the same answers.

All records lie in one hash, and in one of two sorted sets by when they run out, that of what waits and that of what is
known: so what has run out goes, and there are never more than are asked for, whoever sends how much.
"""

_COMMON = """\
local now = tonumber(ARGV[1])
if now < 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local most = tonumber(ARGV[2])
local terms = {
  delay = tonumber(ARGV[3]), window = tonumber(ARGV[4]), expire = tonumber(ARGV[5]), allow_after = tonumber(ARGV[6]),
}

local function whole(number) return string.format('%.0f', number) end

-- The record, unless it has run out.
local function current(name)
  local since, till, delivered = (redis.call('HGET', KEYS[1], name) or ''):match('^(%d+) (%d+) (%d+)$')
  if not since or now > tonumber(till) then return nil end
  return {since = tonumber(since), till = tonumber(till), delivered = tonumber(delivered)}
end

local function drop(kind, names)
  for _, name in ipairs(names) do
    redis.call('HDEL', KEYS[1], name)
    redis.call('ZREM', kind, name)
  end
end

local function keep(name, since, till, delivered)
  redis.call('HSET', KEYS[1], name, whole(since) .. ' ' .. whole(till) .. ' ' .. whole(delivered))
  redis.call('ZREM', KEYS[delivered > 0 and 2 or 3], name)
  redis.call('ZADD', KEYS[delivered > 0 and 3 or 2], whole(till), name)
end

local function renew(name, record)
  if record.till < now + math.floor(terms.expire * 9 / 10) then
    keep(name, record.since, now + terms.expire, record.delivered)
  end
end
"""

ATTEMPT = (
    _COMMON
    + """
local triplet, client, sender = current(ARGV[7]), current(ARGV[8]), current(ARGV[9])
local name, known
if sender then name, known = ARGV[9], sender
elseif client and terms.allow_after > 0 and client.delivered >= terms.allow_after then name, known = ARGV[8], client
elseif triplet and triplet.delivered > 0 then name, known = ARGV[7], triplet
end
if known then
  renew(name, known)
  return {'known', '0', '0'}
end
if not triplet then
  keep(ARGV[7], now, now + terms.window, 0)
  for _, kind in ipairs({KEYS[2], KEYS[3]}) do
    drop(kind, redis.call('ZRANGEBYSCORE', kind, '-inf', '(' .. whole(now), 'LIMIT', 0, 100))
    local over = redis.call('ZCARD', kind) - most
    if over > 0 then drop(kind, redis.call('ZRANGE', kind, 0, math.min(over, 100) - 1)) end
  end
  return {'first', '0', whole(terms.delay)}
end
local waited = math.max(0, now - triplet.since)
if waited < terms.delay then
  if now < triplet.since then keep(ARGV[7], now, triplet.till, 0) end
  return {'early', whole(waited), whole(terms.delay - waited)}
end
return {'passed', whole(waited), '0'}
"""
)

DELIVERED = (
    _COMMON
    + """
local till, passed = now + terms.expire, false
for index = 10, #ARGV do
  local triplet = current(ARGV[index])
  if triplet and triplet.delivered == 0 then
    keep(ARGV[index], math.min(triplet.since, now), till, 1)
    passed = true
  end
end
local client, sender = current(ARGV[7]), current(ARGV[8])
if passed then keep(ARGV[7], now, till, client and client.delivered + 1 or 1) end
if ARGV[9] == '1' then renew(ARGV[8], sender or {since = now, till = 0, delivered = 1}) end
"""
)
