"""Slicing a buffer: whoever keeps what is left of it copies the rest for every line.

Taken away: cutting the buffer at its front. Small buffers don't show it, so they grow.
"""

import time
from typing import List
from unittest import mock

from removal import say, without

from metricsd.protocol.lines import LineBuffer

LINE = b"put k 1.5 1503319740\n"
SIZES = (8, 64, 512)  # KiB
ROUNDS = 2


def growing_buffers() -> List[str]:
    """What a line costs in a small buffer and in larger ones."""
    costs = [nanoseconds_a_line(size) for size in SIZES]
    said = [f"{size} KiB: ~{cost:,.0f} ns a line" for size, cost in zip(SIZES, costs)]
    grows = costs[-1] > 2 * costs[0]
    return [*said, "the more follows a line, the more it costs" if grows else "all the same"]


def nanoseconds_a_line(kibibytes: int) -> float:
    """Take every line out of a buffer of this size, one by one; the fastest round counts."""
    count = kibibytes * 1024 // len(LINE)
    fastest = float("inf")
    for _ in range(ROUNDS):
        lines = LineBuffer(limit=len(LINE), block_bytes=len(LINE))  # so that each comes alone
        lines.feed(LINE * count)
        started = time.process_time()
        for _ in range(count):
            assert lines.take() == LINE
        fastest = min(fastest, time.process_time() - started)
    return fastest / count * 1e9


def main() -> None:
    """Show it with and without."""
    say("with del buffer[:end]", *growing_buffers())
    copying = without(LineBuffer.take, "del buffer[:end]", "self._buffer = buffer[end:]")
    with mock.patch.object(LineBuffer, "take", copying):
        say("without: buffer = buffer[end:]", *growing_buffers())


if __name__ == "__main__":
    main()
