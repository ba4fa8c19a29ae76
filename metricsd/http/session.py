"""One client's requests and the replies to them, in order.

Owns which reply is under way, how it is cut into chunks, and how long a request may take to come.
Does not know what is asked: that is the site.
"""

from time import perf_counter
from typing import Callable, Iterator, Optional

from metricsd.http.framing import Framing
from metricsd.http.messages import Fields, HttpError, Reply, Request, Step, Work, head
from metricsd.store import Receipt, StoreError

# Bytes that are said in one go, and the piece that exceeds them.
ROOM_BYTES = 32 * 1024

# Seconds for which replies are made in one go, and the step that exceeds them. With twice as much
# the slowest of others' puts wait half as long again, for no more replies: bench/README.md.
TURN_SECONDS = 0.0005

# Requests that are begun in one go: at 0.1 ms and more each, about a millisecond.
REQUESTS_A_TURN = 4

# Seconds in which a request has to come, from its first byte on, and those between two.
REQUEST_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 75.0

# Seconds in which a client has to take what has been said, before more is made: a reply that
# nobody reads holds memory that others wait for.
READING_SECONDS = 30.0

# Answers a request; beside the work, it has the fields that every head gets.
Answering = Callable[[Request], Work]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpSession:
    """A client. It is ``unfinished`` as long as a reply is under way, or a request is whole."""

    __slots__ = (
        "_answer", "_answering", "_clock", "_fields", "_framing", "_replying", "_said", "_work",
        "deadline", "over", "unfinished",
    )  # fmt: skip

    def __init__(self, answering: Answering, fields: Fields, clock: Callable[[], float]) -> None:
        """``fields`` are those of every head; ``clock`` is the reactor's."""
        self._answering = answering
        self._fields = fields
        self._clock = clock
        self._framing = Framing()
        self._work: Optional[Iterator[Step]] = None  # on the reply under way
        self._answer: Optional[Receipt] = None  # that it waits for
        self._said = bytearray()
        self._replying = False  # a request has been taken since the deadline was set for the next
        self.unfinished = False
        self.over = False  # the connection is to be closed once the replies are sent
        self.deadline: Optional[float] = clock() + REQUEST_SECONDS

    @property
    def waiting(self) -> bool:
        """Whether the reply under way goes on in a later turn, when a store has answered."""
        return self._answer is not None and not self._answer.settled

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be done before more has come."""
        return not (self.over or self.unfinished)

    @property
    def idle(self) -> bool:
        """Whether nothing is pending in either direction."""
        return not (self.unfinished or self._said or self._framing.begun)

    def receive(self, data: bytes, more_waiting: bool = False) -> None:
        """Take some bytes; b"" is the end of input: a request that is not whole is dropped."""
        if not self.over and data:
            if not self._framing.begun:
                self.deadline = self._clock() + REQUEST_SECONDS
            self._framing.feed(data)
            self.unfinished = True
            self.go_on()

    def go_on(self) -> None:
        """Work a little on the reply under way, or on the next requests."""
        requests = 0
        if self._work is not None:
            self.deadline = self._clock() + READING_SECONDS
        end = perf_counter() + TURN_SECONDS
        while len(self._said) < ROOM_BYTES and perf_counter() < end:
            if self._work is None:
                if requests == REQUESTS_A_TURN:
                    return
                requests += 1
                self._work = self._begin()
                if self._work is None:
                    return
            step = next(self._work, None)
            if step is None:
                self._work = None
            elif not isinstance(step, bytes):
                self._answer = step
                self.deadline = None  # it is not the client who is late
                return
            elif step:
                self._said += step
            else:
                return  # it has worked for long enough

    def when_answered(self, callback: Callable[[], None]) -> None:
        """While ``waiting``: call back once when the store has answered."""
        assert self._answer is not None
        self._answer.when_settled(callback)

    def replies(self) -> bytes:
        """What there is to say, each byte once."""
        said = bytes(self._said)
        self._said.clear()
        return said

    def _begin(self) -> Optional[Iterator[Step]]:
        """The work on the next request, if one is whole."""
        try:
            request = None if self.over else self._framing.take()
        except HttpError as error:
            self.over = True
            return tell(error.reply, "GET", "HTTP/1.0", False, self._fields)
        if request is None:
            self._wait_for_more()
            return None
        self.over = not request.keeps_alive
        self._replying = True
        self.deadline = self._clock() + READING_SECONDS
        return work_on(self._answering, request, self._fields)

    def _wait_for_more(self) -> None:
        """No request is whole."""
        self.unfinished = False
        if self._framing.wants_continue:
            self._framing.wants_continue = False
            self._said += CONTINUE
        if self._replying:
            self._replying = False
            seconds = REQUEST_SECONDS if self._framing.begun else KEEP_ALIVE_SECONDS
            self.deadline = self._clock() + seconds


# What follows knows no session: it is forgotten with it at once, and gives back what it holds.


def work_on(answering: Answering, request: Request, fields: Fields) -> Iterator[Step]:
    """Answer a request: the work, then the reply."""
    try:
        reply = yield from answering(request)
    except HttpError as error:
        reply = error.reply
    except StoreError as error:
        reply = HttpError(503, str(error)).reply
    yield from tell(reply, request.method, request.version, request.keeps_alive, fields)


def tell(
    reply: Reply, method: str, version: str, keeps_alive: bool, every: Fields
) -> Iterator[Step]:
    """The bytes of a reply. A body whose length nobody knows yet is sent in chunks.

    With HTTP/1.0, which knows no chunks, the end of the connection is the end of the body.
    """
    status, content_type, body, more_fields = reply
    fields = [("Content-Type", content_type), *every, *more_fields]
    chunked = not isinstance(body, bytes) and version == "HTTP/1.1"
    if isinstance(body, bytes):
        fields.append(("Content-Length", str(len(body))))
    elif chunked:
        fields.append(("Transfer-Encoding", "chunked"))
    yield head(status, fields, keeps_alive)
    if method == "HEAD":
        return
    if isinstance(body, bytes):
        yield from (body[at : at + ROOM_BYTES] for at in range(0, len(body), ROOM_BYTES))
    else:
        yield from stream(body, chunked)


def stream(body: Iterator[Step], chunked: bool) -> Iterator[Step]:
    """A body piece by piece. Raises ConnectionError, which ends it, if it can't be finished."""
    try:
        for piece in body:
            if chunked and piece and isinstance(piece, bytes):
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
            else:
                yield piece
    except StoreError as error:
        raise ConnectionError(str(error)) from error
    if chunked:
        yield b"0\r\n\r\n"
