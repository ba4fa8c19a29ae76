"""Steps: what happens in a server, one class for each kind of thing, with the facts as fields.

Owns the facts. Does not put them into words: whoever shows a step does.
"""

import enum
from typing import Any, NamedTuple, Optional, Tuple, Union

from metricsd.store import StoreError

# Who is ready besides clients, which are called c1, c2 and so on.
LISTENER = "listener"
WAKER = "waker"  # by which signals and other threads wake the loop


class Phase(enum.Enum):
    """The phases of a turn, as Reactor has them, and the time between two turns."""

    WAIT = "wait"
    READ = "read"
    COMMIT = "commit"
    WRITE = "write"


class Moment(NamedTuple):
    """When a step happened."""

    turn: int  # of the loop; 0 before the first
    phase: Phase


class Point(NamedTuple):
    """One measurement."""

    key: str
    value: float
    timestamp: int


class ReadySocket(NamedTuple):
    """A socket that something can be done with at once."""

    who: str  # a client, LISTENER or WAKER
    to_write: bool  # there is room in its send buffer; if not, there is something to read


class Cause(enum.Enum):
    """Why a connection is closed."""

    INPUT_ENDED = 1  # the client said that this was all, and has been answered
    OVER = 2  # its session is over: another protocol is spoken here
    STOPPING = 3  # the server is
    IDLE = 4
    FAILED = 5  # the network, or we
    SERVER_CLOSED = 6


class Listening(NamedTuple):
    """A listening socket is watched."""

    at: Moment
    address: Tuple[Any, ...]


class Paused(NamedTuple):
    """The listener watches nothing: new clients wait in the kernel."""

    at: Moment


class NotListening(NamedTuple):
    """The listening sockets are closed."""

    at: Moment


class Ready(NamedTuple):
    """The selector has returned: a turn begins."""

    at: Moment
    sockets: Tuple[ReadySocket, ...]


class TimerDue(NamedTuple):
    """A timer is due, and what it calls is called next."""

    at: Moment
    callback: object


class Stopping(NamedTuple):
    """The last turn is over; what has arrived is still answered."""

    at: Moment


class Opened(NamedTuple):
    """A client has been accepted."""

    at: Moment
    client: str
    address: Tuple[Any, ...]


class Received(NamedTuple):
    """Bytes have come from a client."""

    at: Moment
    client: str
    data: bytes


class Peeked(NamedTuple):
    """A look whether the arrival goes on: it does."""

    at: Moment
    client: str


class InputEnded(NamedTuple):
    """A client sends no more."""

    at: Moment
    client: str


class Dropped(NamedTuple):
    """An unfinished line is dropped, as its end will not come."""

    at: Moment
    client: str
    data: bytes


class Put(NamedTuple):
    """The store has taken points."""

    at: Moment
    points: Tuple[Point, ...]
    stored: bool  # if not, their receipt is open


class Committed(NamedTuple):
    """What all clients have put in a turn has been passed on, to be settled in a later one."""

    at: Moment
    points: int


class Settled(NamedTuple):
    """A receipt that was open is settled."""

    at: Moment
    points: int
    refusal: Optional[StoreError]  # None: they are stored


class Refused(NamedTuple):
    """The store has not taken a point."""

    at: Moment
    refusal: StoreError


class Found(NamedTuple):
    """A series has been looked up."""

    at: Moment
    key: str
    points: Optional[int]  # None if there is no such series


class FoundAll(NamedTuple):
    """Every series has been asked for."""

    at: Moment


class Answered(NamedTuple):
    """A session has run what it could, and put into words what it knows of what came of it."""

    at: Moment
    client: str
    requests: int  # whose replies are complete
    waiting: bool  # for a receipt, to say more
    unfinished: bool  # there is more to do
    input_left: bytes


class Queued(NamedTuple):
    """A reply, or part of one, has been put into the write buffer."""

    at: Moment
    client: str
    data: bytes


class Waiting(NamedTuple):
    """A session can say nothing more until a receipt is settled."""

    at: Moment
    client: str


class Watched(NamedTuple):
    """A client has become ready while it waits, and so is watched no more; or it is again."""

    at: Moment
    client: str
    again: bool


class Sent(NamedTuple):
    """One send; the kernel has taken all that there was, or some, or nothing."""

    at: Moment
    client: str
    data: bytes  # that it has taken
    total: int  # bytes that there were


class Interest(NamedTuple):
    """From listening to talking, or back."""

    at: Moment
    client: str
    talking: bool


class Shut(NamedTuple):
    """Nothing more will be sent; what comes is read and dropped for a while."""

    at: Moment
    client: str


class Closed(NamedTuple):
    """A connection is closed."""

    at: Moment
    client: str
    cause: Cause
    error: Optional[Exception]  # if the cause is FAILED


Step = Union[
    Listening, Paused, NotListening, Ready, TimerDue, Stopping, Opened, Received, Peeked,
    InputEnded, Dropped, Put, Committed, Settled, Refused, Found, FoundAll, Answered, Queued,
    Waiting, Watched, Sent, Interest, Shut, Closed,
]  # fmt: skip
