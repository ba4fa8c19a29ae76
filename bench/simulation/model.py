"""The model: what has been put and what is known of it, and so what a get may show.

Owns the promises about points. Time is counted in steps of the world. Does not know how anything
travels, nor how it is stored.
"""

from itertools import islice
from typing import Dict, Iterable, List, Optional

EVERY_KEY = "*"


class Broken(BaseException):
    """A promise is broken; the message says which. Nobody in the server catches it."""


def promise(kept: bool, otherwise: str) -> None:
    """Raise Broken unless a promise is kept."""
    if not kept:
        raise Broken(otherwise)


class Request:
    """A line that a client has sent. As it is, it stands for one that is a wrong command."""

    def __init__(self, session: object, order: int, sent: int) -> None:
        self.session = session
        self.order = order  # in the session
        self.sent = sent
        self.told: Optional[int] = None  # when the client, or another one, knew what came of it
        self.end = 0  # where in all that the client sends the line ends


class Put(Request):
    """A put; no other one has its value."""

    key = ""
    timestamp = 0
    value = 0.0
    seconds = 0.0  # by the clock, when it was sent
    sure = False  # it is stored
    refused = False


class Get(Request):
    """A get, and what it has to see at least."""

    def __init__(self, session: object, order: int, sent: int, key: str) -> None:
        super().__init__(session, order, sent)
        self.key = key
        self.sure: Dict[str, int] = {}  # how many timestamps of each key
        self.own: List[Put] = []  # of the same session, on their way


def before(one: Request, other: Request) -> bool:
    """Whether a request had its effect before the other one can have had any."""
    if one.session is other.session:
        return one.order < other.order
    return one.told is not None and one.told <= other.sent


class Model:
    """All points, and every put that may have made them what they are."""

    def __init__(self) -> None:
        self._by_value: Dict[str, Put] = {}
        self._puts: Dict[str, Dict[int, List[Put]]] = {}
        self._sure: Dict[str, Dict[int, None]] = {}  # that there are, in the order of being known
        self.points = 0  # that there would be if no put had been refused
        self.oldest = -(2**63)  # points before this timestamp may have been dropped

    def add(self, put: Put) -> None:
        """A client puts."""
        self._by_value[repr(put.value)] = put
        puts = self._puts.setdefault(put.key, {}).setdefault(put.timestamp, [])
        self.points += not puts
        puts.append(put)

    def expect(self, get: Get, pending: Iterable[Request]) -> None:
        """A client gets, while it has not been told of some requests."""
        wanted = self._sure if get.key == EVERY_KEY else {get.key: self._sure.get(get.key, {})}
        get.sure = {key: len(points) for key, points in wanted.items()}
        get.own = [put for put in pending if isinstance(put, Put) and get.key in (put.key, "*")]

    def stored(self, put: Put, now: int) -> None:
        """It is known that a put was stored."""
        put.sure = True
        put.told = put.told or now
        self._sure.setdefault(put.key, {})[put.timestamp] = None

    def check(self, get: Get, rows: Iterable[str], now: int) -> None:
        """Compare what a get shows with what it may show, and learn from it."""
        found: Dict[str, List[int]] = {}
        last: List[int] = []
        for row in rows:
            promise(row.count(" ") == 2, f"this is no row: {row}")
            key, value, text = row.split(" ")
            timestamp = int(text)
            put = self._by_value.get(value)
            promise(put is not None, f"a get shows what was never put or is lost: {row}")
            assert put is not None
            same = (put.key, put.timestamp) == (key, timestamp)
            promise(same and get.key in (key, EVERY_KEY), f"a get shows what was not put: {row}")
            promise(not put.refused, f"a get shows what was refused: {row}")
            for other in self._puts[key][timestamp]:
                if other is not put and not other.refused and before(other, get):
                    promise(not before(put, other), f"a get shows what was overwritten: {row}")
            if not put.sure:
                self.stored(put, now)
            if key not in found:
                last = found[key] = []
            promise(last is found[key], f"a get shows a key twice: {key}")
            promise(not last or last[-1] < timestamp, f"rows are not in their order: {row}")
            last.append(timestamp)
        self._check_all_there(get, found)

    def _check_all_there(self, get: Get, found: Dict[str, List[int]]) -> None:
        for key, count in get.sure.items():
            there = set(found.get(key, ()))
            for timestamp in islice(self._sure.get(key, {}), count):
                kept = timestamp in there or timestamp < self.oldest
                promise(kept, f"a get does not show a put that was acknowledged: {key} {timestamp}")
        for put in get.own:
            kept = put.refused or put.timestamp in found.get(put.key, ())
            promise(
                kept or put.timestamp < self.oldest,
                f"a get does not show a put before it in its session: {put.key} {put.timestamp}",
            )

    def restart(self, found: Dict[str, Dict[int, float]], safe: int, now: int) -> None:
        """Compare what is there after a start with what was known to be ``safe`` at that step.

        What is not there is lost for good, but for points that were too old: to drop them may have
        failed, and then a later start finds them.
        """
        self._sure.clear()
        for key, points in self._puts.items():
            for timestamp, puts in points.items():
                value = found.get(key, {}).pop(timestamp, None)
                put = None if value is None else self._by_value.get(repr(value))
                there = f"after a start: {key} {timestamp}"
                promise(value is None or put in puts, f"there is what was not put, {there}")
                sure = [one for one in puts if one.sure and one.told and one.told <= safe]
                kept = put is not None or not sure or timestamp < self.oldest
                promise(kept, f"a safe put is not there {there}")
                if put is not None:
                    for one in sure:
                        stale = one is not put and before(put, one)
                        promise(not stale, f"an older put is there {there}")
                    points[timestamp] = [put]
                    put.refused = False
                    self.stored(put, now)
                elif timestamp >= self.oldest:
                    points[timestamp] = []
        promise(not any(found.values()), f"there is what was never put: {found}")
        left = [put for points in self._puts.values() for puts in points.values() for put in puts]
        self._by_value = {repr(put.value): put for put in left}
