"""One conversation: bytes in, replies out, in order.

Owns what a client has asked and not been told yet. Does not know sockets: a test can hold the whole
conversation with plain bytes.
"""

from io import BytesIO
from typing import Iterator, List, Optional

from metricsd.batch import put_block
from metricsd.commands import COMMANDS, OK, WRONG_COMMAND, BadCommand, run
from metricsd.lines import MAX_LINE_BYTES, LineBuffer
from metricsd.store import Store

# Requests run until there is this much to say, in bytes; the rest wait until it has been sent. So a
# client that asks and does not read costs this and one more piece, not all its replies.
REPLY_ROOM = 32 * 1024


class Session:
    """A client's requests and the replies to them.

    After each ``receive``, call ``replies`` until ``unfinished`` is False; each call runs as many
    requests as there is room for. A reply that is larger than that is made piece by piece.
    """

    __slots__ = (
        "_blank_seen",
        "_first_line",
        "_lines",
        "_max_line_bytes",
        "_more_waiting",
        "_pieces",
        "_request_seen",
        "_store",
        "_waiting",
        "over",
        "unfinished",
    )

    def __init__(self, store: Store, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._store = store
        self._max_line_bytes = max_line_bytes
        self._lines = LineBuffer(max_line_bytes)
        self._waiting: Iterator[bytes] = iter(())  # lines of a block that runs line by line
        self._pieces: Optional[Iterator[bytes]] = None  # of the reply under way
        self._first_line = True
        self._blank_seen = self._request_seen = self._more_waiting = False  # in this arrival
        self.unfinished = False  # there is more to say than there was room for
        self.over = False  # the connection is to be closed once the replies are sent

    @property
    def idle(self) -> bool:
        """Whether nothing is pending: no reply to make, no line begun."""
        return not self.unfinished and not self._lines.inside_line

    def receive(self, data: bytes, more_waiting: bool = False) -> None:
        """Take bytes; ``more_waiting`` if the socket holds more that arrived together with them."""
        if self.over:
            return
        self._request_seen |= self._lines.skipping  # the rest of a long line is no blank line
        self._lines.feed(data)
        self._more_waiting = more_waiting
        self.unfinished = True

    def replies(self) -> bytes:
        """Run what there is room for, and return what there is to say about it."""
        said: List[bytes] = []
        room = REPLY_ROOM
        while room > 0:
            reply = self._step()
            if reply is None:
                self.unfinished = False
                said.append(self._end_of_arrival())
                break
            said.append(reply)
            room -= len(reply)
        return b"".join(said)

    def _step(self) -> Optional[bytes]:
        """Go on with the reply under way, the next line or the next block; None without any."""
        if self._pieces is not None:
            piece = next(self._pieces, None)
            if piece is not None:
                return piece
            self._pieces = None
        line = next(self._waiting, None)
        if line is not None:
            return self._run_line(line)
        block = self._lines.take()
        if block is None:
            return None
        puts = 0 if self._too_long(block) else put_block(self._store, block)
        if puts:
            self._request_seen = True
            self._first_line = False
            return OK * puts
        self._waiting = BytesIO(block)
        return b""

    def _run_line(self, line: bytes) -> bytes:
        first, self._first_line = self._first_line, False
        try:
            if self._too_long(line):
                raise BadCommand
            words = line.decode().split()
            if not words:
                self._blank_seen = True
                return b""
            self._request_seen = True
            reply = run(self._store, words)
        except (BadCommand, UnicodeDecodeError):
            self._request_seen = True
            if first and _is_http(line, self._too_long(line)):
                self._hang_up()
            return WRONG_COMMAND
        if isinstance(reply, bytes):
            return reply
        self._pieces = reply
        return b""

    def _too_long(self, line: bytes) -> bool:
        """Whether a line is over the limit. A block of several lines is within it."""
        return len(line) > self._max_line_bytes + len(b"\n")

    def _end_of_arrival(self) -> bytes:
        """Blank lines are no requests, but an arrival of nothing else is answered: one error."""
        if self._more_waiting:
            return b""
        only_blank = self._blank_seen and not self._request_seen and not self._lines.inside_line
        self._blank_seen = self._request_seen = False
        return WRONG_COMMAND if only_blank else b""

    def _hang_up(self) -> None:
        self.over = True
        self._waiting = iter(())
        self._lines.clear()


def _is_http(line: bytes, too_long: bool) -> bool:
    """Whether a line that is no command of ours is the first of an HTTP request.

    A web page can make a browser send one to any local port, with commands of ours in its body. A
    line over the limit may have lost its "HTTP/1.1"; it is known by its path instead.
    """
    words = line.split()
    if too_long:
        method, path = (words + [b"", b""])[:2]
        return path.startswith(b"/") and method.decode("latin-1") not in COMMANDS
    return len(words) == 3 and words[2].startswith(b"HTTP/")
