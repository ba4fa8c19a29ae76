"""One conversation: bytes in, replies out, in order.

Owns what a client has asked and not been told yet. Does not know sockets: a test can hold the whole
conversation with plain bytes.
"""

from io import BytesIO
from typing import Iterator, List, Optional

from metricsd.batch import put_block
from metricsd.commands import COMMANDS, NOT_STORED, OK, PUT, WRONG_COMMAND, BadCommand, run
from metricsd.ledger import AnyStore
from metricsd.lines import MAX_LINE_BYTES, LineBuffer
from metricsd.store import StoreError

# Requests run until there is this much to say, in bytes; the rest wait until it has been sent. So a
# client that asks and does not read costs this and one more piece, not all its replies.
REPLY_ROOM = 32 * 1024

# With puts uncommitted, a line that does not begin so waits for the commit.
PUT_START = PUT.encode() + b" "

# What each step takes of that room at least. A blank line has no reply, and a `get *` of many short
# series many small pieces; this bounds the work too, to 512 steps of a microsecond or two.
STEP_ROOM = 64


class Session:
    """A client's requests and the replies to them.

    ``receive`` takes what has arrived and returns what there is to say, as far as there is room.
    While ``unfinished``, there is more: ``replies`` returns it, piece by piece, and nothing may be
    received until then. A piece may be empty.

    If puts are ``uncommitted``, what there is to say holds only if they are committed: after that,
    ``committed`` tells. Until then nothing but puts is run, so that a get sees the puts before it.

    An arrival is what waited in the socket when it was read. It only matters for blank lines, which
    are no requests: an arrival that holds nothing else is answered with one error.
    """

    __slots__ = (
        "_arrival_goes_on",
        "_blank_seen",
        "_block_bytes",
        "_certain_bytes",
        "_first_line",
        "_lines",
        "_lines_left",
        "_max_line_bytes",
        "_pieces",
        "_request_seen",
        "_settled",
        "_store",
        "_waiting_line",
        "over",
        "uncommitted",
        "unfinished",
    )

    def __init__(self, store: AnyStore, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._store = store
        self._max_line_bytes = max_line_bytes
        self._lines = LineBuffer(max_line_bytes)
        self._block_bytes = self._lines.block_bytes
        self._lines_left: Iterator[bytes] = iter(())  # of a block that runs line by line
        self._pieces: Optional[Iterator[bytes]] = None  # what is left of a large reply
        self._first_line = True  # no line has come yet
        self._arrival_goes_on = False
        self._blank_seen = self._request_seen = False  # in this arrival
        # Nothing from before matters to the next arrival: no unfinished line, no open arrival. So
        # if it is whole lines of puts, it may pass by the line buffer.
        self._settled = False
        self.unfinished = False
        self.uncommitted = False  # puts have been run whose replies depend on the commit
        self._waiting_line: Optional[bytes] = None  # no put, it runs after the commit
        self._certain_bytes = 0  # said before the first of these puts
        self.over = False  # the connection is to be closed once the replies are sent

    @property
    def idle(self) -> bool:
        """Whether nothing is pending: no reply to make, no line begun."""
        return not self.unfinished and not self._lines.inside_line

    @property
    def waiting(self) -> bytes:
        """The input that is left: an unfinished line, or lines that wait for room."""
        lines = self._lines_left
        left = lines.getvalue()[lines.tell() :] if isinstance(lines, BytesIO) else b""
        return (self._waiting_line or b"") + left + self._lines.waiting

    def receive(self, data: bytes, more_waiting: bool = False) -> bytes:
        """Take an arrival, or part of one if there is ``more_waiting``; b"" is the end of input."""
        whole_lines = data[-1:] == b"\n" and len(data) <= self._block_bytes
        if whole_lines and self._settled and not more_waiting:
            puts = put_block(self._store, data)
            if puts:
                self.uncommitted = self._store.journaled
                return OK * puts  # the usual arrival: whole lines, all of them puts
            self._lines_left = BytesIO(data)
        elif self.over:
            return b""
        else:
            self._request_seen |= self._lines.skipping  # the rest of a long line is not blank
            self._arrival_goes_on = more_waiting
            self._lines.feed(data)
        self._settled = False
        self.unfinished = True
        return self.replies()

    def replies(self) -> bytes:
        """Go on with what is unfinished."""
        said: List[bytes] = []
        certain = 0
        room = REPLY_ROOM
        while room > 0:
            reply = self._step()
            if reply is None:
                said.append(b"" if self._waiting_line else self._finish())
                break
            said.append(reply)
            room -= len(reply) if len(reply) > STEP_ROOM else STEP_ROOM
            if not self.uncommitted:
                certain += len(reply)
        self._certain_bytes = certain if self.uncommitted else 0
        return b"".join(filter(None, said))  # of one reply alone this makes no copy

    def committed(self, said: bytes) -> bytes:
        """The commit is done: return what was to be said, corrected if the puts were refused."""
        certain, self._certain_bytes = self._certain_bytes, 0
        self.uncommitted = False
        if not self._store.refused:
            return said
        return said[:certain] + said[certain:].replace(OK, NOT_STORED)

    def _step(self) -> Optional[bytes]:
        """Go on with the reply under way, the next line or the next block.

        b"" means that nothing is to be said to that, None that there is nothing left to do now.
        """
        if self._pieces is not None:
            piece = next(self._pieces, None)
            if piece is not None:
                return piece
            self._pieces = None
        line = self._waiting_line or next(self._lines_left, None)
        if line is not None:
            waits = self.uncommitted and not line.startswith(PUT_START)
            self._waiting_line = line if waits else None
            return None if waits else self._run_line(line)
        block = self._lines.take()
        if block is None:
            return None
        if len(block) <= self._block_bytes:  # if not, it is a line that may be too long
            puts = put_block(self._store, block)
            if puts:
                self._request_seen = True
                self._first_line = False
                self.uncommitted = self._store.journaled
                return OK * puts
        self._lines_left = BytesIO(block)
        return b""

    def _run_line(self, line: bytes) -> bytes:
        """Run a line. Of a large reply, return nothing yet: ``_step`` goes on with its pieces."""
        first, self._first_line = self._first_line, False
        try:
            too_long = len(line) > self._max_line_bytes + len(b"\n")
            words = [] if too_long else line.decode().split()
            if not words and not too_long:
                self._blank_seen = True
                return b""
            self._request_seen = True
            reply = run(self._store, words)
        except (BadCommand, UnicodeDecodeError):
            self._request_seen = True
            if first and _is_http(line, too_long):
                self._hang_up()
            return WRONG_COMMAND
        except StoreError as error:
            return f"error\n{error}\n\n".encode()
        if words[0] == PUT:
            self.uncommitted = self._store.journaled
        if isinstance(reply, bytes):
            return reply
        self._pieces = reply
        return b""

    def _finish(self) -> bytes:
        """All whole lines have been run: return what there is to say about the arrival itself."""
        self.unfinished = False
        if self._arrival_goes_on:
            return b""
        only_blank = self._blank_seen and not self._request_seen and not self._lines.inside_line
        self._blank_seen = self._request_seen = False
        self._settled = self._lines.empty and not self._first_line and not self.over
        return WRONG_COMMAND if only_blank else b""

    def _hang_up(self) -> None:
        self.over = True
        self._lines_left = iter(())
        self._lines.clear()


def _is_http(line: bytes, too_long: bool) -> bool:
    """Whether a wrong command is the first line of an HTTP request: method, target and version.

    A web page can make a browser send one to any local port, with commands of ours in its body. A
    line over the limit may have lost its version; then its target tells, which begins with a slash.
    """
    method, target, version = (line.split() + [b"", b"", b""])[:3]
    ours = method.decode("latin-1") in COMMANDS
    if too_long:
        return target.startswith(b"/") and not ours
    return version.startswith(b"HTTP/") and (target.startswith(b"/") or not ours)
