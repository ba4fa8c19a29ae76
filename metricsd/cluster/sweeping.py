"""Sweeping: the list of keys is rid of those that have no points any more.

Owns that. The points themselves expire in the cluster. What is here runs in a thread beside the
loop, and waits.
"""

from typing import Any, List, Optional, Tuple

from metricsd.cluster.encoding import KEYS, Command, index_name
from metricsd.cluster.reading import scored

# Keys that are looked at together: a millisecond or two, in which this front's puts wait.
SWEEP_KEYS = 256


class Sweeper:
    """Takes keys out of KEYS that have no points any more."""

    def __init__(self, link: Any) -> None:
        self._link = link
        self._gone: List[Tuple[bytes, float]] = []  # keys that have just been taken out, and orders

    def sweep(self, order: float) -> Optional[float]:
        """Look at a page of keys from this place in the order on; return the next, if there is one.

        Some of them may be put meanwhile by a front that thinks them indexed. So those that the
        call before has taken out go in again, if they are there. Raises LinkError.
        """
        lowest = b"-inf" if order < 0 else b"%d" % order
        limit = [b"LIMIT", b"0", b"%d" % SWEEP_KEYS]
        commands: List[Command] = [[b"ZRANGEBYSCORE", KEYS, lowest, b"+inf", b"WITHSCORES", *limit]]
        commands += [[b"EXISTS", index_name(key.decode())] for key, _ in self._gone]
        found, *there = self._link.run(commands)
        again: List[Command] = [
            [b"ZADD", KEYS, b"NX", b"%d" % order, key]
            for (key, order), exists in zip(self._gone, there)
            if exists != 0
        ]
        keys = scored(found)
        exist = self._link.run([[b"EXISTS", index_name(key.decode())] for key, _ in keys] + again)
        self._gone = [one for one, exists in zip(keys, exist) if exists == 0]
        if self._gone:
            self._link.run([[b"ZREM", KEYS, key] for key, _ in self._gone])
        return keys[-1][1] + 1 if len(keys) == SWEEP_KEYS else None
