"""Packing: a bucket that has become long is kept in parts, so that no hash is more than a list.

Owns when and how. Valkey and Redis keep a hash as a compact list, of some 10 bytes a point, up to
512 fields (hash-max-listpack-entries), and beyond that as a table, of some 60. So from PACK_FIELDS
on all points of a bucket move to hashes of PART_SECONDS each. Later puts go to the bucket as
before, and no front need know: what is in the bucket is newer than what is in its parts.
"""

from typing import Dict, Sequence

from metricsd.cluster.encoding import BUCKET_SECONDS, PACKED, Place, hash_name

PART_SECONDS = 500  # a list even with a point a second
PARTS = BUCKET_SECONDS // PART_SECONDS

# Fields from which on a bucket is packed: more than those of a point every ten seconds, whose
# bucket so stays in one piece.
PACK_FIELDS = 440

WORDS = (b"%d" % PACK_FIELDS, b"%d" % PART_SECONDS, b"%d" % PARTS, PACKED)

# A part of the script that stores, which has the WORDS as its ARGV, from the second on. A slot that
# is on its way to another shard may have some of the names here and some there: EXISTS fails then.
FUNCTION = b"""
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
  if ends > 0 then
    for _, one in ipairs({name, unpack(names)}) do redis.call('EXPIREAT', one, ends) end
  end
end
"""


def part_name(place: Place, part: int) -> str:
    """The name of the hash of a part of a bucket."""
    return f"{hash_name(place)}.{part}"


def unpacked(bucket: Dict[bytes, bytes], parts: Sequence[Dict[bytes, bytes]]) -> Dict[bytes, bytes]:
    """The fields of some parts and of their bucket, which has the newer ones."""
    found: Dict[bytes, bytes] = {}
    for fields in [*parts, bucket]:
        found.update(fields)
    return found
