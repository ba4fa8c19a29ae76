"""The intake: lines of all senders go in, points go into the store.

Owns what has come and is not stored yet, how much that may be, and the counts of what was dropped.
Does not know where lines come from.
"""

from collections import deque
from io import BytesIO
from itertools import compress
from math import isfinite
from typing import Callable, Deque, Iterator, List, Optional, Tuple

from metricsd.graphite.plaintext import Point, Points, point_of_line, points_of_block
from metricsd.store import STORED, Receipt, Store, StoreError

# Bytes of lines that go the short way at a time: what one receive brings, and the line that had
# begun before it. Some 400 lines, half a millisecond.
BLOCK_BYTES = 17 * 1024

# Lines that are read one by one in a turn, at 2 us each, and slow puts among them, at up to 150 us:
# after about a millisecond others have their turn.
LINES_A_STEP = 512
SLOW_PUTS_A_STEP = 8

# Bytes of points whose receipts are open, from which on nothing is received. A store that writes
# takes a commit at a time, which is less than a MiB; another one is gathered meanwhile.
MAX_OPEN_BYTES = 2 * 1024 * 1024

POINT_BYTES = 32  # of these for one point, beside its key


class Pending:
    """Points whose receipt is open."""

    __slots__ = ("points", "receipt", "size")

    def __init__(self, receipt: Receipt, points: int, size: int) -> None:
        self.receipt = receipt
        self.points = points
        self.size = size  # in bytes


class Intake:
    """What all senders of a server share: they ``add`` lines, and once a turn it does ``run``.

    Nobody is told what has come of a line, so all lines are one stream. What takes long is left for
    later turns, in its order, also if who has sent it is gone by then.
    """

    def __init__(
        self, store: Store, wall_clock: Callable[[], float], wake: Callable[[], object]
    ) -> None:
        """Take the store, a function that tells the time, in seconds since the epoch, and another.

        ``wake`` sees to it that the next turn follows at once.
        """
        self.points = 0  # stored so far
        self.bytes_in = 0  # that senders have sent
        self.bad_lines = self.not_finite = self.strangers = 0  # dropped so far, by the reason
        self.refused_full = 0  # points so far for which the store had no room
        self.refused_failed = 0  # and those that it could not keep
        self._store = store
        self._wall_clock = wall_clock
        self._wake = wake
        self._gathered: List[bytes] = []  # whole lines, of this turn
        self._gathered_bytes = 0
        self._left: Optional[Iterator[Optional[Point]]] = None  # of a block that goes in slowly
        self._blocks: Deque[Tuple[bytes, int]] = deque()  # that come after it: lines, and when
        self._open: Deque[Pending] = deque()
        self._open_bytes = 0
        self._waiters: List[Callable[[], None]] = []

    @property
    def unfinished(self) -> bool:
        """Whether there is something to do for ``go_on``."""
        return bool(self._gathered) or self._behind

    @property
    def _behind(self) -> bool:
        """Whether something is left of earlier blocks."""
        return self._left is not None or bool(self._blocks)

    @property
    def full(self) -> bool:
        """Whether there is nothing to be done until receipts are settled."""
        return self._open_bytes > MAX_OPEN_BYTES

    @property
    def busy(self) -> bool:
        """Whether nothing should be added now."""
        return self.full or self._behind

    def when_free(self, callback: Callable[[], None]) -> None:
        """While ``busy``: call back once, when it is no more."""
        self._waiters.append(callback)

    def add(self, lines: bytes) -> None:
        """Take whole lines: at most BLOCK_BYTES of them, or one that is longer."""
        if self._gathered and self._gathered_bytes + len(lines) > BLOCK_BYTES:
            self._run_gathered()
        self._gathered.append(lines)
        self._gathered_bytes += len(lines)

    def run(self) -> None:
        """Once a turn: do some of what is left, and store what has been gathered."""
        if self._behind:
            self.go_on()
        if self._gathered:
            self._run_gathered()
        self._look_further()

    def _run_gathered(self) -> None:
        """Store what has been gathered, as one block."""
        block = b"".join(self._gathered)
        self._gathered.clear()
        self._gathered_bytes = 0
        now = int(self._wall_clock())
        if self._behind:
            self._blocks.append((block, now))
        else:
            self._begin(block, now)

    def _look_further(self) -> None:
        """There is more to do in the next turn; or those who wait for that may go on."""
        if self._behind and not self.full:
            self._wake()
        elif self._waiters and not self.busy:
            waiters, self._waiters = self._waiters, []
            for callback in waiters:
                callback()

    def go_on(self) -> None:
        """Do some of what is left, unless the store has enough to do."""
        if self._gathered:
            self._run_gathered()
        if self.full:
            return
        steps, slow_end = LINES_A_STEP, self._store.slow_puts + SLOW_PUTS_A_STEP
        for point in self._left or ():
            if point is not None:
                self._put(point)
            steps -= 1
            if not steps or self._store.slow_puts >= slow_end or self.full:
                return
        self._left = None
        if self._blocks:
            self._begin(*self._blocks.popleft())

    def _begin(self, block: bytes, now: int) -> None:
        """Store a block the short way; what does not go that way is left."""
        points = points_of_block(block, now)
        if points is None:
            self._left = self._points_by_line(block, now)
            return
        keys, values, timestamps = self._finite(points)
        taken = 0
        if 0 < len(keys) <= self._store.room:
            taken, receipt = self._store.put_many(keys, values, timestamps)
            self._count(receipt, taken, len(block))
        if taken < len(keys):
            self._left = zip(keys[taken:], values[taken:], timestamps[taken:])

    def _points_by_line(self, block: bytes, now: int) -> Iterator[Optional[Point]]:
        """Yield the point of each line, or None for a line that has none, which is counted."""
        for line in BytesIO(block):
            try:
                point = point_of_line(line, now)
            except ValueError:
                self.bad_lines += 1
                point = None
            if point is not None and not isfinite(point[1]):
                self.not_finite += 1
                point = None
            yield point

    def _finite(self, points: Points) -> Points:
        """Drop the points whose values are not finite."""
        if isfinite(sum(points.values)):  # a sum of finite numbers need not be, but nearly always
            return points
        wanted = list(map(isfinite, points.values))
        self.not_finite += wanted.count(False)
        keys, values, timestamps = points
        return Points(
            list(compress(keys, wanted)),
            list(compress(values, wanted)),
            list(compress(timestamps, wanted)),
        )

    def _put(self, point: Point) -> None:
        try:
            receipt = self._store.put(*point)
        except StoreError:
            self.refused_full += 1
        else:
            self._count(receipt, 1, len(point[0]) + POINT_BYTES)

    def _count(self, receipt: Receipt, points: int, size: int) -> None:
        """Count what the store has taken, now or when its receipt is settled."""
        if receipt is STORED:
            self.points += points
            return
        self._open_bytes += size
        last = self._open[-1] if self._open else None
        if last is not None and last.receipt is receipt:
            last.points += points
            last.size += size
        else:
            self._open.append(Pending(receipt, points, size))
            receipt.when_settled(self._on_settled)  # which may be now

    def _on_settled(self) -> None:
        while self._open and self._open[0].receipt.settled:
            pending = self._open.popleft()
            self._open_bytes -= pending.size
            if pending.receipt.refusal is None:
                self.points += pending.points
            else:
                self.refused_failed += pending.points
        self._look_further()
