"""The model: what has been put and what is known of it, and so what a get may show.

Owns the promises about points. Time is counted in steps of the world. Does not know how anything
travels, nor how it is stored.
"""

from typing import Dict, Iterable, List, Optional, Tuple

EVERY_KEY = "*"
MIN_TIMESTAMP = -(2**63)

# Points before a timestamp are not shown any more, of puts that somebody knew of at a step.
Gone = Tuple[int, int]


class Broken(BaseException):
    """A promise is broken; the message says which. Nobody in the server catches it."""


def promise(kept: object, otherwise: str, about: object = "") -> None:
    """Raise Broken unless a promise is kept; what it is about is put into words only then."""
    if not kept:
        raise Broken(f"{otherwise}: {about}" if about else otherwise)


class Request:
    """A line that a client has sent. As it is, it stands for one that is a wrong command."""

    def __init__(self, session: object, order: int, sent: int) -> None:
        self.session = session
        self.order = order  # in the session
        self.sent = sent
        self.told: Optional[int] = None  # when somebody knew what came of it
        self.end = 0  # where in all that the client sends the line ends


class Get(Request):
    """A get of a key, or of every key."""

    key = EVERY_KEY
    gone: Gone = (MIN_TIMESTAMP, 0)


class Put(Request):
    """A put; no other one has its value. Without one there is no point then."""

    key = ""
    timestamp = MIN_TIMESTAMP
    value: Optional[float] = None
    seconds = 0.0  # by the clock, when it was sent
    sure = False  # it is stored
    refused = False

    def __str__(self) -> str:
        return f"{self.key} {self.value} {self.timestamp}"


Shown = Dict[str, Dict[int, Put]]  # what a get shows of each key and timestamp


NEVER_PUT = Put(None, 0, 0)
NEVER_PUT.sure, NEVER_PUT.told = True, 0


def before(one: Request, other: Request) -> bool:
    """Whether a request had its effect before the other one can have had any."""
    if one.session is other.session and one.session:
        return one.order < other.order
    return one.told is not None and one.told <= other.sent


class Model:
    """All points, and every put that may have made them what they are."""

    def __init__(self) -> None:
        self._by_value: Dict[str, Put] = {}
        self._puts: Dict[str, Dict[int, List[Put]]] = {}
        self._sure: Dict[str, Dict[int, List[Put]]] = {}  # those of them of which one is sure
        self._order: List[str] = []  # of keys, as it was shown last
        self._reordered = 0  # the step in which a key was last dropped, as far as is known
        self._dropped = False  # somebody has tried to: the log may have it, whatever came of that
        self.points = 0  # that there would be if no put had been refused
        self.oldest = MIN_TIMESTAMP  # points before this timestamp may have been dropped
        self.gone: Gone = (MIN_TIMESTAMP, 0)

    def add(self, put: Put) -> None:
        """A client puts."""
        self._by_value[repr(put.value)] = put
        points = self._puts.setdefault(put.key, {})
        self.points += put.timestamp not in points
        points.setdefault(put.timestamp, [NEVER_PUT]).append(put)

    def drop(self, key: str, now: int) -> List[Put]:
        """Somebody drops a key; return what stands for that at each of its points."""
        self._dropped = True
        drops = []
        for timestamp, puts in self._puts.get(key, {}).items():
            drop = Put(None, 0, now)
            drop.key, drop.timestamp = key, timestamp
            puts.append(drop)
            drops.append(drop)
        return drops

    def stored(self, put: Put, now: int) -> None:
        """It is known that a put was stored."""
        put.sure = True
        put.told = put.told or now
        self._sure.setdefault(put.key, {})[put.timestamp] = self._puts[put.key][put.timestamp]
        if put.value is None:
            self._order, self._reordered = [], now

    def check(self, get: Get, rows: Iterable[str], now: int) -> Shown:
        """Compare what a get shows with what it may show, and learn from it."""
        shown: Shown = {}
        last = NEVER_PUT
        for row in rows:
            promise(row.count(" ") == 2, "this is no row", row)
            key, value, when = row.split(" ")
            put = self._by_value.get(value, last)
            promise(put is not last, "a get shows what was never put, or is lost", row)
            same = (put.key, str(put.timestamp)) == (key, when)
            promise(same and get.key in (key, EVERY_KEY), "a get shows what was not put", row)
            promise(not put.refused or not get.session, "a get shows what was refused", row)
            ascends = put.timestamp > last.timestamp if key == last.key else key not in shown
            promise(ascends, "rows are not in their order", row)
            shown.setdefault(key, {})[put.timestamp] = last = put
            oldest, step = get.gone
            old = put.timestamp < oldest and put.told and put.told <= step
            promise(not old, "a get shows what is too old", row)
            puts = self._puts[key][put.timestamp]
            if put is not puts[-1]:  # or else nothing can have come after
                self._check_point(puts, put, get)
            if not put.sure:
                self.stored(put, now)
        for key in self._sure if get.key == EVERY_KEY else [get.key]:
            points = shown.get(key, {})
            for timestamp, puts in self._sure.get(key, {}).items():
                if timestamp not in points:
                    self._check_point(puts, None, get)
        # A start runs the log again, so that keys that were dropped may then have changed places.
        steady = get.sent >= self._reordered if get.session else not self._dropped
        if get.key == EVERY_KEY and steady and self.oldest == MIN_TIMESTAMP:
            there = [key for key in shown if key in self._order]
            kept = there == [key for key in self._order if key in shown]
            promise(kept, f"keys are not in the order of their first put: {list(shown)}")
            self._order = list(shown)
        return shown

    def _check_point(self, puts: List[Put], shown: Optional[Put], get: Get) -> None:
        """What is shown of a point is no older than the last that was sure before the get."""
        after_start = not get.session  # then what was refused may be there, or dropped, after all
        newer: List[Put] = []  # that were sure
        for put in reversed(puts):
            gone = shown is None and put.value is None and after_start >= put.refused
            if (gone or put is shown) and not any(before(put, other) for other in newer):
                return
            if put.sure and before(put, get):
                newer.append(put)
        what = "shows what is gone" if shown else "does not show a put that was acknowledged"
        promise(not shown and puts[-1].timestamp < self.oldest, f"a get {what}: {puts[-1]}")

    def restart(self, rows: Iterable[str], safe: int, now: int) -> None:
        """Compare what is there after a start with what was known to be ``safe`` at that step.

        A put that was refused may be there. What is not there is lost for good, but for points that
        were too old: to drop them may have failed, and then a later start finds them.
        """
        self._order = [] if self._dropped else self._order
        shown = self.check(Get(None, 0, safe), rows, now)
        self._sure.clear()
        for key, points in self._puts.items():
            for timestamp, puts in points.items():
                put = shown.get(key, {}).get(timestamp)
                if put or timestamp >= self.oldest:
                    for other in puts:
                        self._by_value.pop(repr(other.value), None)
                    puts[:] = [NEVER_PUT]
                if put:
                    put.refused = False
                    self._by_value[repr(put.value)] = put
                    puts.append(put)
                    self.stored(put, now)
