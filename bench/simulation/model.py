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
    """A line that a client sends: one of "puts", "gets" or "wrong", as the server counts them.

    No other put has its value; without one there is no point then.
    """

    told: Optional[int] = None  # when somebody knew what came of it
    end = 0  # where in all that the client sends the line ends
    seconds = 0.0  # by the clock, when it was sent
    value: Optional[float] = None
    timestamp = MIN_TIMESTAMP
    sure = refused = False  # it is stored, or not
    gone: Gone = (MIN_TIMESTAMP, 0)  # what a get may not show

    def __init__(
        self, kind: str, client: object, order: int, sent: int, key: str = EVERY_KEY,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.client = client  # nobody, if it is the world's
        self.order = order  # of the client's
        self.sent = sent
        self.key = key

    def before(self, other: "Request") -> bool:
        """Whether it had its effect before the other one can have had any."""
        if self.client is other.client and self.client:
            return self.order < other.order
        return self.told is not None and self.told <= other.sent


Shown = Dict[str, Dict[int, Request]]  # what a get shows of each key and timestamp

NEVER_PUT = Request("puts", None, 0, 0)
NEVER_PUT.sure, NEVER_PUT.told = True, 0


class Model:
    """All points, and every put that may have made them what they are."""

    def __init__(self) -> None:
        self.number = 0  # of puts
        self._by_value: Dict[str, Request] = {}
        self._puts: Dict[str, Dict[int, List[Request]]] = {}
        self._order: List[str] = []  # of keys, as it was shown last
        self._reordered = 0  # the step in which a key was last dropped, as far as is known
        self._dropped = False  # somebody has tried to: the log may have it, whatever came of that
        self.points = 0  # that there would be if no put had been refused
        self.oldest = MIN_TIMESTAMP  # points before this timestamp may have been dropped
        self.gone: Gone = (MIN_TIMESTAMP, 0)

    def add(self, put: Request) -> float:
        """A client puts; return the value."""
        self.number += 1
        put.value = float(self.number)
        self._by_value[repr(put.value)] = put
        points = self._puts.setdefault(put.key, {})
        self.points += put.timestamp not in points
        points.setdefault(put.timestamp, [NEVER_PUT]).append(put)
        return put.value

    def drop(self, key: str, now: int) -> Request:
        """Somebody drops a key; return what stands for that at each of its points."""
        self._dropped = True
        drop = Request("puts", None, 0, now, key)
        for puts in self._puts.get(key, {}).values():
            puts.append(drop)
        return drop

    def stored(self, put: Request, now: int) -> None:
        """It is known that a put was stored."""
        put.sure = True
        put.told = put.told or now
        if put.value is None:
            self._order, self._reordered = [], now

    def overwrites(self, put: Request) -> bool:
        """Whether there is a point in any case that this put is to replace."""
        others = self._puts[put.key][put.timestamp][1:]
        dropped = any(other.value is None for other in others) or self.oldest > MIN_TIMESTAMP
        return not dropped and any(other.sure and other.before(put) for other in others)

    def check(self, get: Request, rows: Iterable[str], now: int) -> Shown:
        """Compare what a get shows with what it may show, and learn from it."""
        shown: Shown = {}
        last = NEVER_PUT
        for row in rows:
            key, value, when = row.split(" ")
            put = self._by_value.get(value, NEVER_PUT)
            promise(put is not NEVER_PUT, "a get shows what was never put, or is lost", row)
            same = (put.key, str(put.timestamp)) == (key, when)
            promise(same and get.key in (key, EVERY_KEY), "a get shows what was not put", row)
            promise(not put.refused or not get.client, "a get shows what was refused", row)
            ascends = put.timestamp > last.timestamp if key == last.key else key not in shown
            promise(ascends, "rows are not in their order", row)
            shown.setdefault(key, {})[put.timestamp] = last = put
            oldest, step = get.gone
            old = put.timestamp < oldest and put.told and put.told <= step
            promise(not old, "a get shows what is too old", row)
            if not put.sure:
                self.stored(put, now)
        for key in self._puts if get.key == EVERY_KEY else [get.key]:
            points = shown.get(key, {})
            for timestamp, puts in self._puts.get(key, {}).items():
                found = points.get(timestamp)
                if found is puts[-1] or not (found or puts[-1].sure or puts[1:-1]):
                    continue  # nearly always: nothing has come after, or nothing yet
                if not self._fits(puts, found, get):
                    old = not found and timestamp < self.oldest
                    what = "a get does not show a put that was acknowledged"
                    what = "a get shows what is gone" if found else what
                    promise(old, what, f"{key} {puts[-1].value} {timestamp}")
        # A start runs the log again, so that keys that were dropped may then have changed places.
        steady = get.sent >= self._reordered if get.client else not self._dropped
        if get.key == EVERY_KEY and steady and self.oldest == MIN_TIMESTAMP:
            there = [key for key in shown if key in self._order]
            kept = there == [key for key in self._order if key in shown]
            promise(kept, f"keys are not in the order of their first put: {list(shown)}")
            self._order = list(shown)
        return shown

    def _fits(self, puts: List[Request], shown: Optional[Request], get: Request) -> bool:
        """What is shown of a point is no older than the last that was sure before the get."""
        after_start = not get.client  # then what was refused may be there, or dropped, after all
        newer: List[Request] = []  # that were sure
        for put in reversed(puts):
            gone = shown is None and put.value is None and after_start >= put.refused
            if (gone or put is shown) and not (newer and any(map(put.before, newer))):
                return True
            if put.sure and put.before(get):
                newer.append(put)
        return False

    def restart(self, rows: Iterable[str], safe: int, now: int) -> None:
        """Compare what is there after a start with what was known to be ``safe`` at that step.

        A put that was refused may be there. What is not there is lost for good, but for points that
        were too old: to drop them may have failed, and then a later start finds them.
        """
        self._order = [] if self._dropped else self._order
        shown = self.check(Request("gets", None, 0, safe), rows, now)
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
