"""State in Redis or Valkey, which several machines share: a charge is one script, run by the server as one.

The scripts are `limits.window` once more, in Lua; one test suite holds both to the same answers. Time is the server's,
so that machines whose clocks differ agree. All names bear the hash tag {filterd}: in a Cluster they lie in one slot,
as a charge of several limits must, so a Cluster brings availability here, and no more room. What cannot be read counts
as nothing, and is written over.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import RedisError, ResponseError

from filterd.backend.redis_greylist import ATTEMPT, DELIVERED
from filterd.backend.waiting import about_to_wait
from filterd.limits.greylist import MOST, Answer, Attempt, Welcome
from filterd.limits.state import StoreError
from filterd.limits.window import SLOTS, Bucket, Charge, Ending, Held, Standing

_PREFIX = "{filterd}:bucket:"
_GREYLIST = ["{filterd}:greylist", "{filterd}:greylist:waits", "{filterd}:greylist:known"]

_RESERVE = """\
local SLOTS = %d
local now = tonumber(ARGV[1])
if now < 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function whole(number) return string.format('%.0f', number) end
local function add(counts, slot, count) counts[slot] = (counts[slot] or 0) + count end

-- The bucket as it is now: without what has left the window or lapsed.
local function read(key, charge)
  local raw = redis.pcall('HGETALL', key)
  if raw.err then
    redis.call('DEL', key)
    raw = {}
  end
  local slot = math.floor(now / charge.width)
  local first = slot - SLOTS
  local counts, held, changed = {}, {}, false
  for index = 1, #raw, 2 do
    local kind, name, value = raw[index]:sub(1, 1), raw[index]:sub(2), raw[index + 1]
    local number = kind == 'c' and value:match('^%d+$') and name:match('^%d+$')
    local at, cost, kept = value:match('^(%d+) (%d+) (%d)$')
    if number then
      number = tonumber(number)
      if number >= first then add(counts, math.min(number, slot), tonumber(value)) end
      changed = changed or number < first or number > slot
    elseif kind ~= 'h' or not at then
      changed = true
    else
      changed = changed or tonumber(at) > now
      at, cost = math.min(tonumber(at), now), tonumber(cost)
      local number = math.floor(at / charge.width)
      if number >= first and now - at < charge.held_for then
        held[name] = {at = at, cost = cost, kept = kept == '1'}
      else
        if number >= first and kept == '1' then add(counts, number, cost) end
        changed = true
      end
    end
  end
  return {counts = counts, held = held, changed = changed}
end

local function used(bucket)
  local sum = 0
  for _, count in pairs(bucket.counts) do sum = sum + count end
  for _, each in pairs(bucket.held) do sum = sum + each.cost end
  return sum
end

local function more(bucket, charge)
  local held = bucket.held[charge.member]
  return held and math.max(0, charge.cost - held.cost) or charge.cost
end

local function hold(bucket, charge)
  local held = bucket.held[charge.member]
  if not held then
    if used(bucket) <= charge.most then
      bucket.held[charge.member] = {at = now, cost = charge.cost, kept = charge.kept}
    end
    return
  end
  if charge.recorded == 'always' or charge.cost > held.cost then held.at = now end
  held.cost = math.max(held.cost, charge.cost)
  held.kept = held.kept and charge.kept
end

local function wait(bucket, charge)
  local leaving = {}
  for slot, count in pairs(bucket.counts) do table.insert(leaving, {slot, count}) end
  for _, each in pairs(bucket.held) do table.insert(leaving, {math.floor(each.at / charge.width), each.cost}) end
  table.sort(leaving, function(one, other) return one[1] < other[1] end)
  local missing = used(bucket) + more(bucket, charge) - charge.most
  for _, each in ipairs(leaving) do
    missing = missing - each[2]
    if missing <= 0 then return (each[1] + SLOTS + 1) * charge.width - now end
  end
  return charge.span
end

local function write(key, bucket, charge)
  local fields = {}
  for slot, count in pairs(bucket.counts) do
    table.insert(fields, 'c' .. whole(slot))
    table.insert(fields, whole(count))
  end
  for name, each in pairs(bucket.held) do
    table.insert(fields, 'h' .. name)
    table.insert(fields, whole(each.at) .. ' ' .. whole(each.cost) .. ' ' .. (each.kept and '1' or '0'))
  end
  redis.call('DEL', key)
  for index = 1, #fields, 1000 do
    redis.call('HSET', key, unpack(fields, index, math.min(index + 999, #fields)))
  end
  if #fields > 0 then redis.call('PEXPIRE', key, whole(2 * charge.span + 60000)) end
end

local charges, buckets, room, admitted = {}, {}, {}, true
for index, key in ipairs(KEYS) do
  local at = 2 + (index - 1) * 9
  local charge = {
    most = tonumber(ARGV[at]), span = tonumber(ARGV[at + 1]), width = tonumber(ARGV[at + 2]),
    cost = tonumber(ARGV[at + 3]), member = ARGV[at + 4], kept = ARGV[at + 5] == '1',
    binding = ARGV[at + 6] == '1', recorded = ARGV[at + 7], held_for = tonumber(ARGV[at + 8]),
  }
  charges[index], buckets[index] = charge, read(key, charge)
  room[index] = used(buckets[index]) + more(buckets[index], charge) <= charge.most
  if charge.binding and not room[index] then admitted = false end
end
local standings = {}
for index, key in ipairs(KEYS) do
  local charge, bucket = charges[index], buckets[index]
  if charge.recorded == 'always' or (charge.recorded == 'admitted' and admitted and room[index]) then
    hold(bucket, charge)
    bucket.changed = true
  end
  if bucket.changed then write(key, bucket, charge) end
  table.insert(standings, room[index] and 1 or 0)
  table.insert(standings, whole(used(bucket)))
  table.insert(standings, whole(room[index] and 0 or wait(bucket, charge)))
end
return standings
""".replace("%d", str(SLOTS), 1)

_SETTLE = """\
for index, key in ipairs(KEYS) do
  local at = 2 + (index - 1) * 3
  local member, cost, width = 'h' .. ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local held = redis.call('HGET', key, member)
  if held then
    local since, _, kept = held:match('^(%d+) (%d+) (%d)$')
    if not (ARGV[1] == 'leave' and kept == '0') then
      if since and ARGV[1] ~= 'refund' then
        redis.call('HINCRBY', key, string.format('c%.0f', math.floor(tonumber(since) / width)), cost)
      end
      redis.call('HDEL', key, member)
    end
  end
end
"""

T = TypeVar("T")


class RedisStore:
    """The store that a client of redis-py speaks to: of one server, a Sentinel's master or a Cluster.

    `connect` makes the client, whose timeouts are set, when it is first needed. `own_time`: the server's clock counts,
    not the caller's.
    """

    def __init__(self, connect: Callable[[], Any], *, own_time: bool = True, most: int = MOST) -> None:
        self._connect = connect
        self._most = most
        self._own_time = own_time
        self._lock = threading.Lock()
        self._client: Any = None

    def reserve(self, charges: Sequence[Charge], now: int) -> tuple[Standing, ...]:
        arguments: list[str | int] = [-1 if self._own_time else now]
        for each in charges:
            arguments += [each.most, each.span, each.width, each.cost, each.member]
            arguments += [int(each.kept), int(each.binding), each.recorded.value, each.held_for]
        found = [int(number) for number in self._ask(lambda client: client.reserve(_keys(charges), arguments))]
        return tuple(Standing(bool(found[at]), found[at + 1], found[at + 2]) for at in range(0, len(found), 3))

    def settle(self, charges: Sequence[Charge], ending: Ending, now: int) -> None:
        arguments: list[str | int] = [ending.value]
        for each in charges:
            arguments += [each.member, each.cost, each.width]
        self._ask(lambda client: client.settle(_keys(charges), arguments))

    def buckets(self) -> Iterator[tuple[str, Bucket]]:
        for key in self._ask(lambda client: list(client.redis.scan_iter(match=f"{_PREFIX}*", count=500))):
            yield _text(key).removeprefix(_PREFIX), _bucket(self._ask(partial(_fields, key)))

    def forget(self, names: Sequence[str]) -> int:
        return sum(self._ask(partial(_delete, _PREFIX + name)) for name in names)

    def attempt(self, asked: Attempt, now: int) -> Answer:
        arguments = [*self._terms(asked, now), *asked.names]
        welcome, waited, retry_after = self._ask(lambda client: client.attempt(_GREYLIST, arguments))
        return Answer(Welcome(_text(welcome)), int(waited), int(retry_after))

    def delivered(self, attempts: Sequence[Attempt], now: int, *, proven: bool) -> None:
        if not attempts:
            return
        first, triplets = attempts[0], [each.triplet_name for each in attempts]
        arguments = [*self._terms(first, now), first.client_name, first.sender_name, int(proven), *triplets]
        self._ask(lambda client: client.delivered(_GREYLIST, arguments))

    def _terms(self, asked: Attempt, now: int) -> list[str | int]:
        terms = asked.terms
        at = -1 if self._own_time else now
        return [at, self._most, terms.delay, terms.window, terms.expire, terms.allow_after]

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.redis.close()

    def _ask(self, ask: Callable[["_Client"], T]) -> T:
        about_to_wait()
        try:
            with self._lock:
                client = self._client = self._client or _Client(self._connect())
            return ask(client)
        except (RedisError, OSError) as error:
            raise StoreError(f"{type(error).__name__}: {error}") from None


class _Client:
    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.reserve = redis.register_script(_RESERVE)
        self.settle = redis.register_script(_SETTLE)
        self.attempt = redis.register_script(ATTEMPT)
        self.delivered = redis.register_script(DELIVERED)


def _fields(key: Any, client: _Client) -> dict[bytes, bytes]:
    try:
        return dict(client.redis.hgetall(key))
    except ResponseError:
        return {}  # it is no hash


def _delete(key: str, client: _Client) -> int:
    return int(client.redis.delete(key))


def _keys(charges: Sequence[Charge]) -> list[str]:
    return [_PREFIX + each.bucket for each in charges]


def _bucket(fields: dict[bytes, bytes]) -> Bucket:
    bucket = Bucket()
    for field, value in fields.items():
        name = _text(field)
        try:
            if name.startswith("c"):
                bucket.counts[int(name[1:])] = int(value)
            elif name.startswith("h"):
                at, cost, kept = map(int, value.split())
                bucket.held[name[1:]] = Held(at, cost, bool(kept))
        except ValueError:
            continue
    return bucket


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "replace")
