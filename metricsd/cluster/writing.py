"""Writing: a batch of puts goes into the hashes of its keys, and new ones into the indexes.

Owns which keys and buckets this front has seen in the indexes. What is here runs in a thread beside
the loop, and waits.
"""

import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from metricsd.cluster.encoding import (
    BUCKET_SECONDS,
    KEYS,
    Command,
    Place,
    Points,
    end_of,
    index_name,
    member,
    points_of,
)
from metricsd.cluster.links import LinkError
from metricsd.cluster.packing import PACK_FIELDS, expiry
from metricsd.cluster.storing import grouped, problem_in, store
from metricsd.store import Receipt

# Keys of which this front remembers the bucket it put to last, at some 250 bytes each. Beyond that
# it begins anew, and asks the indexes to take what they have.
MAX_SEEN = 1000000

# The last second at which something is made to expire: the cluster refuses those that it can't
# count in milliseconds.
LAST_EXPIRY = 10**12


class Batch:
    """Puts that are answered together. Each call that has brought some has a receipt of its own."""

    def __init__(self) -> None:
        self.keys: List[str] = []
        self.values: List[float] = []
        self.timestamps: List[int] = []
        self.size = 0  # in bytes, about
        self.receipts: List[Tuple[int, Receipt]] = []  # each with the number of puts up to there
        self.failed: Optional[Set[Place]] = None  # whose puts may not be stored, when it is known
        self.problem = ""  # one of the reasons

    def add(self, keys: List[str], values: List[float], timestamps: List[int]) -> Receipt:
        """Take some more puts."""
        self.keys += keys
        self.values += values
        self.timestamps += timestamps
        receipt = Receipt()
        self.receipts.append((len(self.keys), receipt))
        return receipt

    def pieces(self, puts: int) -> Iterator[Dict[Place, Points]]:
        """Yield the points of so many puts at a time."""
        for start in range(0, len(self.keys), puts):
            piece = slice(start, start + puts)
            yield points_of(self.keys[piece], self.values[piece], self.timestamps[piece])

    def outcomes(self) -> Iterator[Tuple[Receipt, int, bool]]:
        """Each receipt, the number of its puts, and whether all of them are stored."""
        start = 0
        for end, receipt in self.receipts:
            stored = self.failed is not None
            if self.failed:
                places = zip(self.keys[start:end], self.timestamps[start:end])
                stored = not any(
                    (key, timestamp // BUCKET_SECONDS) in self.failed for key, timestamp in places
                )
            yield receipt, end - start, stored
            start = end


class Writer:
    """Writes batches, one after the other."""

    def __init__(
        self,
        link: Any,
        retention: Optional[float] = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take a Link or a ReplicatedLink, and the seconds for which points are kept, if so."""
        self._link = link
        self._retention = retention
        self._wall_clock = wall_clock
        self._seen: Dict[str, int] = {}  # the bucket of each key that has been put to last
        self._last_new = ""  # the key that has been indexed last
        self._last_score = 0.0  # of that, in KEYS; another if it was lost, and put by another front
        self._order = 0  # the highest that this front has given

    def write(self, batch: Batch) -> None:
        """Store these puts, and note which may have failed."""
        failed: Set[Place] = set()
        left = list(batch.pieces(self._link.puts_at_a_time))
        try:
            while left:
                failed |= self._write(left[0], batch)
                del left[0]
        except LinkError as error:
            batch.problem = str(error)
            failed.update(*left)
        for key, _ in failed:
            self._seen.pop(key, None)  # it may have been stored, in a hash that is in no index
        batch.failed = failed

    def _write(self, points: Dict[Place, Points], batch: Batch) -> Set[Place]:
        """Return the places of those that may not be stored, or not be found."""
        seen = {place: words for place, words in points.items() if self._has_seen(place)}
        groups = grouped(seen, self._link.owners())
        commands = [store([points[place] for place in group]) for group in groups]
        if self._last_new:
            commands.append([b"ZSCORE", KEYS, self._last_new])
        results = self._link.run(commands) if commands else []
        if self._last_new and results[-1] != self._last_score:
            self._seen.clear()  # the index has lost it, and maybe others
        failed: Set[Place] = set()
        unusual: Set[Place] = set()
        for group, result in zip(groups, results):
            if isinstance(result, Exception):
                batch.problem = str(result)
                failed.update(group)
            else:
                unusual.update(group[number - 1] for number, _ in result)
                if any(problem for _, problem in result):
                    self._link.forget_owners()
        alone = [place for place in points if place in unusual or not self._has_seen(place)]
        alone = [place for place in alone if place not in failed]
        return failed | self._write_alone(alone, points, batch) if alone else failed

    def _has_seen(self, place: Place) -> bool:
        """Whether the bucket is in the indexes, as far as is known."""
        return self._seen.get(place[0]) == place[1]

    def _write_alone(
        self, places: List[Place], points: Dict[Place, Points], batch: Batch
    ) -> Set[Place]:
        """Store each of these by itself, and let it be found; return those of which that failed."""
        commands: List[Command] = []
        counts: List[int] = []
        for place in places:
            before = len(commands)
            commands += self._commands(place, points[place])
            counts.append(len(commands) - before)
        last = places[-1][0]
        *found, score = self._link.run([*commands, [b"ZSCORE", KEYS, last]])
        if isinstance(score, float):
            self._last_new, self._last_score = last, score
        results = iter(found)
        failed: Set[Place] = set()
        if len(self._seen) > MAX_SEEN:
            self._seen.clear()
        for place, count in zip(places, counts):
            problems = [problem_in(one) for _, one in zip(range(count), results)]
            if any(problems):
                batch.problem = max(problems)
                failed.add(place)
            else:
                self._seen[place[0]] = place[1]
        return failed

    def _commands(self, place: Place, points: Points) -> Iterator[Command]:
        """All that it takes to store points and to find them.

        The index comes first: a replica that has the hash when its primary is lost has that too.
        """
        key, bucket = place
        yield [b"ZADD", index_name(key), b"0", member(bucket)]
        yield store([points])
        if self._retention is not None:
            yield from self._expiry_commands(place, self._retention)
        if len(points) > 2 * PACK_FIELDS:
            yield store([points])  # once more, and it is packed
        # In microseconds, and no two keys of a front have the same.
        self._order = max(self._order + 1, int(self._wall_clock() * 1e6))
        yield [b"ZADD", KEYS, b"NX", b"%d" % self._order, key]

    def _expiry_commands(self, place: Place, retention: float) -> Iterator[Command]:
        """Let a bucket go when its last point would be too old, and the set of them with the last.

        The set is also rid of those that have gone.
        """
        key, bucket = place
        index = index_name(key)
        end = b"%d" % min(max(1, end_of(bucket) + 1 + int(retention)), LAST_EXPIRY)
        oldest = int(self._wall_clock() - retention) // BUCKET_SECONDS
        yield [b"ZREMRANGEBYLEX", index, b"-", b"(" + member(oldest)]
        yield [b"EXPIREAT", index, end, b"NX"]
        yield [b"EXPIREAT", index, end, b"GT"]
        yield expiry(place, end)
