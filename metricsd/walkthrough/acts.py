"""Acts: what happens outside of the server, one class for each kind, with the facts as fields.

Owns the facts. Does not put them into words: captions.py does. What the server does are steps.
"""

from typing import NamedTuple, Union


class Connects(NamedTuple):
    """A client connects."""

    client: str


class Sends(NamedTuple):
    """A client sends."""

    client: str
    data: bytes


class Reads(NamedTuple):
    """A client takes all that has been sent to it."""

    client: str
    data: bytes


class Ends(NamedTuple):
    """A client says that it sends no more, and still reads."""

    client: str


class Leaves(NamedTuple):
    """A client closes its connection."""

    client: str


class Fills(NamedTuple):
    """A client has put many points, which is not played."""

    client: str
    points: int
    key: str


class Sleeps(NamedTuple):
    """The loop sleeps, as there is no room for what it would send to a client."""

    client: str


class DiskIsUsed(NamedTuple):
    """From now on a put is stored when a disk says so."""


class DiskHasWritten(NamedTuple):
    """The disk has written all that it was given."""


class DiskHasFailed(NamedTuple):
    """The disk has not written what it was given."""


class LineIsTakenOut(NamedTuple):
    """The line that wakes the loop is missing from now on."""


class DiskIsNotHeard(NamedTuple):
    """The disk has written, and the loop is not woken."""

    client: str  # who waits for it


class NobodyNotices(NamedTuple):
    """Everybody but one client is served as before."""

    client: str


class LineIsBack(NamedTuple):
    """The line that wakes the loop is there again, and runs."""


Act = Union[
    Connects, Sends, Reads, Ends, Leaves, Fills, Sleeps, DiskIsUsed, DiskHasWritten, DiskHasFailed,
    LineIsTakenOut, DiskIsNotHeard, NobodyNotices, LineIsBack,
]  # fmt: skip
