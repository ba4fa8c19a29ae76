"""A feed: one sender's stream of lines, to which nothing is ever said.

Owns the line that has begun. Does not know what lines mean, but for the two beginnings of somebody
who took this port for another one.
"""

from typing import Callable

from metricsd.graphite.intake import BLOCK_BYTES, Intake
from metricsd.protocol import FOREIGN_START, MAX_LINE_BYTES, LineBuffer, is_foreign


class Feed:
    """A session for a sender of lines.

    It is ``waiting`` as long as the intake is busy: what takes long or is not safe yet slows down
    all who have sent something, by TCP.
    """

    __slots__ = ("_first_line", "_intake", "_lines", "_max_line_bytes", "over")
    deadline = None  # a sender may take its time

    def __init__(self, intake: Intake, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._intake = intake
        self._max_line_bytes = max_line_bytes
        self._lines = LineBuffer(max_line_bytes, BLOCK_BYTES)
        self._first_line = True  # has not come yet
        self.over = False  # the connection is to be closed

    @property
    def unfinished(self) -> bool:
        """Nothing is: the intake goes on by itself."""
        return False

    @property
    def waiting(self) -> bool:
        """Whether the intake takes no more for now."""
        return self._intake.busy

    @property
    def quiet(self) -> bool:
        """Whether it is not waiting, nor over."""
        return not (self.over or self.waiting)

    @property
    def idle(self) -> bool:
        """Whether no line has begun, and none is left."""
        return not (self._lines.inside_line or self._intake.unfinished)

    def receive(self, data: bytes, more_waiting: bool = False) -> None:
        """Take some bytes; b"" is the end of input, which ends the last line as well."""
        if self.over:
            return
        self._intake.bytes_in += len(data)
        lines = self._lines
        if data[-1:] == b"\n" and lines.empty and len(data) <= lines.block_bytes:
            self._pass_on(data)
            return
        if not data and lines.empty:
            return
        lines.feed(data or b"\n")
        if self._first_line and lines.begins_with(FOREIGN_START):
            self._hang_up()
            return
        block = lines.take()
        while block is not None:
            self._pass_on(block)
            block = lines.take()

    def go_on(self) -> None:
        """Nothing: the intake goes on by itself."""

    def when_answered(self, callback: Callable[[], None]) -> None:
        """While ``waiting``: call back once, when the intake takes more."""
        self._intake.when_free(callback)

    def replies(self) -> bytes:
        """Nothing: some senders close when anything comes back, and others never read it."""
        return b""

    def _pass_on(self, block: bytes) -> None:
        """Give whole lines to the intake, unless the first one shows a stranger."""
        if self._first_line:
            self._first_line = False
            first = block[: block.index(b"\n") + 1]
            if first.startswith(FOREIGN_START) or is_foreign(first, cut=self._lines.skipping):
                self._hang_up()
                return
        if len(block) > self._lines.block_bytes and len(block) > self._max_line_bytes + len(b"\n"):
            self._intake.bad_lines += 1
        else:
            self._intake.add(block)

    def _hang_up(self) -> None:
        """Drop all that has come."""
        self.over = True
        self._lines.clear()
        self._intake.strangers += 1


class DatagramFeed(Feed):
    """A session for datagrams: none goes on in the next one, so that one session does for all.

    A datagram can be larger than what a connection receives at a time: it runs a block at a time.
    """

    __slots__ = ()

    def __init__(self, intake: Intake, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        super().__init__(intake, max_line_bytes)
        self._first_line = False  # there is nothing to hang up

    @property
    def unfinished(self) -> bool:
        """Whether lines have come that the intake does not have, or it has more to do."""
        return not self._lines.empty or self._intake.unfinished

    @property
    def waiting(self) -> bool:
        """Whether the intake has to wait itself."""
        return self._intake.full

    def receive(self, data: bytes, more_waiting: bool = False) -> None:
        """Take a datagram, whose last line may lack its line feed."""
        if not data:
            return
        self._intake.bytes_in += len(data)
        lines = data if data[-1:] == b"\n" else data + b"\n"
        if self._lines.empty and len(lines) <= self._lines.block_bytes:
            self._pass_on(lines)
        else:
            self._lines.feed(lines)

    def go_on(self) -> None:
        """Give the intake one more block, or let it do a little of what it has left."""
        block = self._lines.take()
        if block is None:
            self._intake.go_on()
        else:
            self._pass_on(block)
