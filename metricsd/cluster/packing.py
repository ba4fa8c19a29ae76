"""Packing: a bucket that has become long is kept in parts, so that no hash is more than a list.

Owns when and how. Valkey and Redis keep a hash as a compact list, of some 10 bytes a point, up to
512 fields (hash-max-listpack-entries), and beyond that as a table, of some 60. So from PACK_FIELDS
on all points of a bucket move to hashes of PART_SECONDS each. Later puts go to the bucket as
before, and no front need know: what is in the bucket is newer than what is in its parts.
"""

from typing import Dict, Sequence

from metricsd.cluster.encoding import BUCKET_SECONDS, PACKED, Command, Place, hash_name

PART_SECONDS = 500  # a list even with a point a second
PARTS = BUCKET_SECONDS // PART_SECONDS

# Fields from which on a bucket is packed: more than those of a point every ten seconds, whose
# bucket so stays in one piece.
PACK_FIELDS = 440

WORDS = (b"%d" % PACK_FIELDS, b"%d" % PART_SECONDS, b"%d" % PARTS, PACKED)

# Parts of scripts. A slot that is on its way to another shard may have some of the names here and
# some there: a command fails then.
EXPIRE = b"""
local function expire(name, parts, ends)
  redis.call('EXPIREAT', name, ends)
  for part = 1, parts do redis.call('EXPIREAT', name .. '.' .. part - 1, ends) end
end
"""

# One that has the WORDS as its ARGV, from the second on.
PACK = b"""
local function pack(name)
  local names, parts = {}, {}
  for part = 1, ARGV[4] do names[part] = name .. '.' .. part - 1 end
  redis.call('EXISTS', name, unpack(names))
  local ends = redis.call('EXPIRETIME', name)
  local fields = redis.call('HGETALL', name)
  for place = 1, #fields, 2 do
    local second = tonumber(fields[place])
    if second then
      local part = names[math.floor(second / ARGV[3]) + 1]
      parts[part] = parts[part] or {part}
      table.insert(parts[part], fields[place])
      table.insert(parts[part], fields[place + 1])
    end
  end
  for _, words in pairs(parts) do redis.call('HSET', unpack(words)) end
  redis.call('DEL', name)
  redis.call('HSET', name, ARGV[5], '')
  if ends > 0 then expire(name, ARGV[4], ends) end
end
"""

# A bucket may have been packed before points were to expire at all.
EXPIRY = (
    b"#!lua flags=allow-cross-slot-keys"
    + EXPIRE
    + b"expire(KEYS[1], redis.call('HEXISTS', KEYS[1], ARGV[2]) * ARGV[3], ARGV[1])"
)


def expiry(place: Place, end: bytes) -> Command:
    """The command that lets a bucket go at a second, with its parts."""
    return [b"EVAL", EXPIRY, b"1", hash_name(place), end, PACKED, b"%d" % PARTS]


def part_name(place: Place, part: int) -> str:
    """The name of the hash of a part of a bucket."""
    return f"{hash_name(place)}.{part}"


def unpacked(bucket: Dict[bytes, bytes], parts: Sequence[Dict[bytes, bytes]]) -> Dict[bytes, bytes]:
    """The fields of some parts and of their bucket, which has the newer ones."""
    found: Dict[bytes, bytes] = {}
    for fields in [*parts, bucket]:
        found.update(fields)
    return found
