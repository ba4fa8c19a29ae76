"""Storing: all that a shard gets of a batch is one command, whose answer says only what is unusual.

Owns the script for that. The client library takes some microseconds for each command, so an HSET
for each hash would cost a front several times as much.
"""

import json
from typing import Any, Dict, List, Sequence

from metricsd.cluster.encoding import Command, Place, Points, slot_of
from metricsd.cluster.packing import EXPIRE, PACK, WORDS

# Hashes that a script stores: about a millisecond in which the shard does nothing else.
HASHES_A_SCRIPT = 500

# Of so many hashes of a script one is packed, which takes about a millisecond: those of an interval
# become long at the same time. So all of them have had their turn after as many puts, before any
# has 512 fields.
HASHES_A_PACK = 63

# The hashes of a script may be in any slots of its shard's. One that is on its way to another
# shard, or there by now, is refused by itself. Lua can pass on 8,000 words, more than a batch has.
# A hash that is new is not packed before it is told when it expires.
SCRIPT = b"""#!lua flags=allow-cross-slot-keys
%s%s
local try, most, unusual, hashes = redis.pcall, tonumber(ARGV[2]), {}, cjson.decode(ARGV[1])
local packs = math.ceil(#hashes / %d)
for number, words in ipairs(hashes) do
  local length, added = try('HLEN', words[1]), try('HSET', unpack(words))
  if type(added) == 'table' then
    table.insert(unusual, {number, added.err})
  elseif length == 0 then
    table.insert(unusual, {number, ''})
  elseif length + added >= most and packs > 0 then
    packs = packs - 1
    pcall(pack, words[1])
  end
end
return unusual
""" % (EXPIRE, PACK, HASHES_A_PACK)


def store(hashes: Sequence[Points]) -> Command:
    """The command that stores points of a shard's hashes, and packs those that are long by now."""
    return [b"EVAL", SCRIPT, b"1", hashes[0][0], json.dumps(hashes), *WORDS]


def grouped(points: Dict[Place, Points], owners: Sequence[Any]) -> List[List[Place]]:
    """The hashes of each shard, as its slots say, HASHES_A_SCRIPT of them at a time."""
    groups: List[List[Place]] = []
    last: Dict[Any, List[Place]] = {}  # of each owner
    for place, words in points.items():
        owner = owners[slot_of(words[0])]
        if owner not in last or len(last[owner]) == HASHES_A_SCRIPT:
            last[owner] = []
            groups.append(last[owner])
        last[owner].append(place)
    return groups


def problem_in(result: Any) -> str:
    """Why a command has failed, whether for its one hash or as a whole; empty if it has not."""
    if isinstance(result, list):
        return "".join(problem.decode() for _, problem in result)
    return str(result) if isinstance(result, Exception) else ""
