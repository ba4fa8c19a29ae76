"""Packing: a bucket that has become long is kept in parts, so that no hash is more than a list.

Owns when and how. Valkey and Redis keep a hash as a compact list, of some 10 bytes a point, up to
512 fields (hash-max-listpack-entries), and beyond that as a table, of some 60. So from PACK_FIELDS
on all points of a bucket move to hashes of PART_SECONDS each. Later puts go to the bucket as
before, and need not know: what is in the bucket is newer than what is in its parts. Any front may
do it at any time, for it is one step of the shard's.
"""

from typing import Dict, Sequence

from metricsd.cluster.encoding import (
    BUCKET_SECONDS,
    MARK,
    PACKED,
    Command,
    Place,
    hash_name,
)

PART_SECONDS = 500  # a list even with a point a second
PARTS = BUCKET_SECONDS // PART_SECONDS

# Fields from which on a bucket is packed: more than those of a point every ten seconds, whose
# bucket so stays in one piece.
PACK_FIELDS = 440

# Points that a front adds to a bucket from one attempt to the next. With two fronts there are never
# more than 512 fields before one of them has packed it; with more, where many come at once, or
# while the shard fails, there is a table until the next attempt.
PACK_EVERY = 32

# All the names are told, so that a shard refuses while some of them are on their way to another.
SCRIPT = b"""
if redis.call('HLEN', KEYS[1]) < tonumber(ARGV[1]) then return 0 end
local ends = redis.call('EXPIRETIME', KEYS[1])
local fields, parts = redis.call('HGETALL', KEYS[1]), {}
for place = 1, #fields, 2 do
  local second = tonumber(fields[place])
  if second then
    local name = KEYS[math.floor(second / ARGV[2]) + 2]
    parts[name] = parts[name] or {}
    table.insert(parts[name], fields[place])
    table.insert(parts[name], fields[place + 1])
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[3], '', ARGV[4], '')
for name, words in pairs(parts) do redis.call('HSET', name, unpack(words)) end
if ends > 0 then
  for _, name in ipairs(KEYS) do redis.call('EXPIREAT', name, ends) end
end
return 1
"""


def part_name(place: Place, part: int) -> bytes:
    """The name of the hash of a part of a bucket."""
    return hash_name(place) + b".%d" % part


def pack(place: Place) -> Command:
    """The command that packs a bucket, if it is long enough."""
    names = [hash_name(place), *(part_name(place, part) for part in range(PARTS))]
    numbers = [b"%d" % number for number in (len(names), PACK_FIELDS, PART_SECONDS)]
    return [b"EVAL", SCRIPT, numbers[0], *names, *numbers[1:], MARK, PACKED]


def unpacked(bucket: Dict[bytes, bytes], parts: Sequence[Dict[bytes, bytes]]) -> Dict[bytes, bytes]:
    """The fields of some parts and of their bucket, which has the newer ones."""
    found: Dict[bytes, bytes] = {}
    for fields in [*parts, bucket]:
        found.update(fields)
    return found
