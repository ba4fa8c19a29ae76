"""One conversation: bytes in, replies out, in order.

Owns what a client has asked and not been told yet. Does not know sockets: a test can hold the whole
conversation with plain bytes.
"""

from io import BytesIO
from typing import Callable, Iterator, Optional

from metricsd.protocol.batch import BLOCK_BYTES, lines_behind, put_block
from metricsd.protocol.commands import BadCommand, Dispatcher
from metricsd.protocol.lines import MAX_LINE_BYTES, LineBuffer
from metricsd.protocol.outcomes import SLOW_ROOM, Outcomes
from metricsd.protocol.strangers import FOREIGN_START, is_foreign
from metricsd.protocol.words import WRONG_COMMAND, Outcome, known_bytes, of_puts, words
from metricsd.store import Receipt, StoreError

NONE_LEFT: Iterator[bytes] = iter(())

LINE_FEED, P = b"\np"  # as numbers, which single bytes are


class Session:
    """A client's requests and the replies to them.

    ``receive`` takes what has arrived and runs it, as far as there is room for the replies. While
    ``unfinished``, there is more: ``go_on`` runs it, and nothing may be received until then.

    What comes of each request is an *outcome*, and ``replies`` puts outcomes into words, in order:
    what to say to a put is not known before the store has settled its receipt. While a receipt is
    open, the session is ``waiting``, and runs puts alone, so that a get sees those before it.

    An arrival is what waited in the socket when it was read. It only matters for blank lines, which
    are no requests: an arrival that holds nothing else is answered with one error.
    """

    __slots__ = (
        "_arrival_goes_on", "_batch", "_blank_seen", "_counts", "_dispatcher", "_failure",
        "_first_line", "_held_line", "_lines", "_lines_left", "_max_line_bytes", "_outcomes",
        "_pieces", "_request_seen", "over", "quiet", "said", "unfinished", "waiting",
    )  # fmt: skip
    deadline = None  # a client may take its time

    def __init__(self, dispatcher: Dispatcher, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._dispatcher = dispatcher
        self._batch = dispatcher.batch
        self._counts = dispatcher.counts
        self._max_line_bytes = max_line_bytes
        self._lines = LineBuffer(max_line_bytes, BLOCK_BYTES)
        self._lines_left: Iterator[bytes] = NONE_LEFT  # of a block that runs line by line
        self._held_line: Optional[bytes] = None  # no put: it runs when no receipt is open
        self._pieces: Optional[Iterator[Outcome]] = None  # what is left of a large reply
        self._outcomes = Outcomes()
        self.said: Outcome = b""  # what has come of an arrival, if there is nothing else to say
        self._first_line = True  # no line has come yet
        self._arrival_goes_on = False
        self._blank_seen = self._request_seen = False  # in this arrival
        self.quiet = False  # nothing is left from before: whole lines may go a shorter way
        self._failure: Optional[Exception] = None  # of running alone, to be raised in replies
        self.unfinished = False
        self.waiting = False  # a receipt is open
        self.over = False  # the connection is to be closed once the replies are sent

    @property
    def idle(self) -> bool:
        """Whether nothing is pending: no reply to make, no line begun."""
        pending = self.unfinished or self.said or self._outcomes or self in self._batch.putters
        return not (pending or self._lines.inside_line)

    def receive(self, data: bytes, more_waiting: bool = False) -> None:
        """Take an arrival, or part of one if there is ``more_waiting``; b"" is the end of input."""
        if not self.quiet or more_waiting or not data or data[-1] != LINE_FEED:
            self._receive_part(data, more_waiting)
            return
        self.quiet = False
        if data[0] == P:
            self._batch.putters.append(self)
            self._batch.arrivals.append(data)  # the usual arrival: whole lines of puts
        else:
            self.run_alone(data)

    def take(self, outcome: Outcome, left: bytes) -> None:
        """Keep what has come of an arrival of puts, and the lines of it that are left."""
        if not left:
            self.said = outcome
            self._counts.bytes_out += known_bytes(outcome)
        else:
            self._outcomes.add(outcome)
            self._put_off(left)

    def _put_off(self, lines: bytes) -> None:
        """Leave the rest of a block for the next turn: it would hold up others."""
        self._outcomes.room = 0
        self._lines_left = BytesIO(lines)
        self.unfinished = True

    def run_alone(self, lines: bytes) -> None:
        """Run these whole lines one by one. An exception is kept, and ``replies`` raises it."""
        self._counts.bytes_in += len(lines)
        only_line = lines.count(b"\n") == 1
        try:
            outcome = self._run_line(lines) if only_line else b""
            if outcome:  # the usual get: all is said to it, and nothing is left
                self._request_seen = False
                self.take(outcome, b"")
                return
            self._lines_left = NONE_LEFT if only_line else BytesIO(lines)
            self.unfinished = True
            self.go_on()
        except Exception as error:
            self._failure = error

    def _receive_part(self, data: bytes, more_waiting: bool) -> None:
        """Take what may begin or end in the middle of a line."""
        if self.over:
            return
        self._finish_short_way()
        self._counts.bytes_in += len(data)
        self._request_seen |= self._lines.skipping  # the rest of a long line is not blank
        self._arrival_goes_on = more_waiting
        self._lines.feed(data)
        self.quiet = False
        self.unfinished = True
        self.go_on()

    def _finish_short_way(self) -> None:
        """Run what has been gathered, and keep the reply: something else comes behind it."""
        if self._batch.putters:
            self._batch.run()
        if self.said:
            self._counts.bytes_out -= known_bytes(self.said)  # with the others they count again
            self._outcomes.add(self.said)
            self.said = b""

    def go_on(self) -> None:
        """Run what is unfinished, until there is no room for more replies, or one is waited for."""
        store = self._dispatcher.store
        while self._outcomes.room > 0:
            slow_before = store.slow_puts
            outcome = self._step()
            self._outcomes.room -= SLOW_ROOM * (store.slow_puts - slow_before)
            if outcome is None:
                if self._held_line is None:
                    self._finish()
                break
            self._outcomes.add(outcome)

    def when_answered(self, callback: Callable[[], None]) -> None:
        """While ``waiting``: call back once when the first open receipt is settled."""
        (self.said or self._outcomes.first).receipt.when_settled(callback)  # type: ignore[union-attr]

    def replies(self) -> bytes:
        """What there is to say, as far as it is known; each byte once."""
        said = self.said
        if said:  # nearly always: to puts, which are stored, or will be in a later turn
            if not isinstance(said, bytes):
                self.waiting = not said.receipt.settled
                if self.waiting:
                    return b""
                said = said.said()
                self._counts.bytes_out += len(said)
            self.said = b""
            self.quiet = True
            return said
        self._finish_short_way()
        if self._failure is not None:
            raise self._failure
        said = self._outcomes.take_words()
        self._counts.bytes_out += len(said)
        self.waiting = bool(self._outcomes)
        busy = self.unfinished or self.waiting or self.over or self._arrival_goes_on
        fit = self._lines.block_bytes == BLOCK_BYTES  # if not, a line of a block may be too long
        self.quiet = fit and self._lines.empty and not self._first_line and not busy
        return said

    def _step(self) -> Optional[Outcome]:
        """Go on with the reply under way, the next line or the next block.

        b"" means that nothing is to be said to that, None that there is nothing left to do now.
        """
        if self._pieces is not None:
            piece = next(self._pieces, None)
            if piece is not None:
                return piece
            self._pieces = None
        line = self._held_line or next(self._lines_left, None)
        if line is not None:
            held = not line.startswith(b"put ") and self._outcomes.pending()
            self._held_line = line if held else None
            return None if held else self._run_line(line)
        if self._first_line and self._lines.begins_with(FOREIGN_START):
            return self._hang_up()
        block = self._lines.take()
        if block is None:
            return None
        if len(block) <= self._lines.block_bytes:  # if not, it is a line that may be too long
            taken, left, receipt = put_block(self._dispatcher.store, block)
            if receipt is not None:
                self._counts.puts += taken
                self._request_seen = True
                self._first_line = False
                if left:
                    self._put_off(lines_behind(block, taken))
                return of_puts(taken, receipt)
        self._lines_left = BytesIO(block)
        return b""

    def _run_line(self, line: bytes) -> Outcome:
        """Run a line. Of a large reply, return nothing yet: ``_step`` goes on with its pieces."""
        first, self._first_line = self._first_line, False
        try:
            too_long = len(line) > self._max_line_bytes + len(b"\n")
            split = [] if too_long else line.decode().split()
            if not split and not too_long:
                self._blank_seen = True
                return b""
            self._request_seen = True
            reply = self._dispatcher.run(split)
        except (BadCommand, UnicodeDecodeError):
            self._counts.wrong += 1
            self._request_seen = True
            foreign = first and is_foreign(line, cut=self._lines.skipping)
            return self._hang_up() if foreign else WRONG_COMMAND
        except StoreError as error:
            self._counts.refused += 1
            return words(error)
        if isinstance(reply, Receipt):
            return of_puts(1, reply)
        if isinstance(reply, bytes):
            return reply
        self._pieces = reply
        return b""

    def _finish(self) -> None:
        """All whole lines have been run: what there is to say about the arrival itself is said."""
        self.unfinished = False
        self._lines_left = NONE_LEFT
        if self._arrival_goes_on:
            return
        if self._blank_seen and not self._request_seen and not self._lines.inside_line:
            self._outcomes.add(WRONG_COMMAND)
        self._blank_seen = self._request_seen = False

    def _hang_up(self) -> bytes:
        """Drop all that has come; the session ends with an error."""
        self.over = self._request_seen = True
        self._counts.strangers += 1
        self._first_line = False
        self._lines_left = NONE_LEFT
        self._lines.clear()
        return WRONG_COMMAND
