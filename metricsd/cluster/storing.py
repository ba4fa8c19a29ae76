"""Storing: all that a shard gets of a batch is one command, whose answer says only what is unusual.

Owns the script for that. The client library takes some microseconds for each command, so an HSET
for each hash would cost a front several times as much.
"""

import json
from typing import Any, Dict, List, Sequence, Set

from metricsd.cluster.encoding import Command, Place, Points, slot_of
from metricsd.cluster.packing import FUNCTION, WORDS

# Hashes that a script stores: about a millisecond in which the shard does nothing else.
HASHES_A_SCRIPT = 500

# The hashes of a script may be in any slots of its shard's. One that is on its way to another
# shard, or there by now, is refused by itself. Lua can pass on 8,000 words, more than a batch has.
# A hash that is new is not packed before it is told when it expires.
SCRIPT = (
    b"""#!lua flags=allow-cross-slot-keys
%s
local try, most, unusual = redis.pcall, tonumber(ARGV[2]), {}
for number, words in ipairs(cjson.decode(ARGV[1])) do
  local length, added = try('HLEN', words[1]), try('HSET', unpack(words))
  if type(added) == 'table' then
    table.insert(unusual, {number, added.err})
  elseif length == 0 then
    table.insert(unusual, {number, ''})
  elseif length + added >= most then
    pcall(pack, words[1])
  end
end
return unusual
"""
    % FUNCTION
)


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


def commands_for(groups: List[List[Place]], points: Dict[Place, Points]) -> List[Command]:
    """The commands that store these."""
    return [store([points[place] for place in group]) for group in groups]


class Outcome:
    """What has come of some hashes that were to be stored."""

    def __init__(self) -> None:
        self.new: Set[Place] = set()  # there was no hash before
        self.failed: Set[Place] = set()  # they may not be stored
        self.refused: List[Place] = []  # the shard that was told last can't store them
        self.problem = ""  # one of the reasons

    def hear(self, groups: List[List[Place]], results: List[Any]) -> None:
        """Take what the scripts have said of these, or why nothing is known of them."""
        self.refused = []
        for group, result in zip(groups, results):
            if isinstance(result, Exception):
                self.problem = str(result)
                self.failed.update(group)
                continue
            for number, problem in result:
                if problem:
                    self.problem = problem.decode()
                    self.refused.append(group[number - 1])
                else:
                    self.new.add(group[number - 1])
