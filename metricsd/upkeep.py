"""Upkeep: the tasks that run as long as a server does.

Owns when points are too old, when a connection has been silent for too long, and how much is done
about it in a turn. Does not know how a point is dropped, nor what makes a connection idle.
"""

import math
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

from metricsd.loop import Connection, Reactor, Steps, Task

# Sweeps that begin in the time that a connection may be idle: it is closed a tenth late at most.
IDLE_SWEEPS = 10
SHORTEST_IDLE_PAUSE = 0.1  # seconds

# Connections that are looked at in a turn, which takes a tenth of a millisecond; closing one takes
# as long as looking at eight or more of them.
LOOKS_A_TURN = 512
LOOKS_A_CLOSE = 8

# Seconds for which a sweep over the points works before everybody else has a turn.
SLICE_SECONDS = 0.001

# Seconds between two looks for clients who are overdue.
OVERDUE_PAUSE = 1.0

# Sweeps that begin in the time that a point is kept, within these limits in seconds: none is kept
# a hundredth longer, nor two seconds if that is more.
RETENTION_SWEEPS = 100
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

# The share of the time that is worked at most: with very many series the pauses grow longer.
WORKING_SHARE = 0.05

# Seconds until blocks with late points are sealed with them, if nothing else has done that before.
LATE_SECONDS = 10.0
SEALS_A_TURN = 16  # at 50 to 100 us each, about a millisecond

# Seconds between two looks at the counters that are stored as points: Graphite's senders usually
# send as often.
COUNTERS_PAUSE = 10.0

DropBefore = Callable[[int], Iterator[None]]  # drops a little each time that it is asked


def begin(
    store: Any,
    connections: Iterable[Connection],
    reactor: Reactor,
    options: Any,
    wall_clock: Callable[[], float],
) -> None:
    """Begin what there is to do as long as a server runs; ``store`` is Tended."""

    def sealing() -> Task:
        return Task(reactor, seal_late(lambda: store.late_blocks, store.seal_late))

    task = sealing()  # of what was there before, if anything

    def begin_sealing() -> None:
        nonlocal task
        if task.ended:  # it sleeps on while these blocks come and go
            task = sealing()

    store.on_late = begin_sealing
    if options.idle_timeout is not None:
        Task(reactor, close_idle(connections, reactor, options.idle_timeout))
    if options.retention is not None:
        for _ in store.drop_before(too_old(wall_clock(), options.retention)):
            pass  # all of it at once: nobody is served yet
        Task(reactor, drop_old(store.drop_before, options.retention, wall_clock))


def close_idle(connections: Iterable[Connection], reactor: Reactor, timeout: float) -> Steps:
    """Close the connections that have had nothing pending for ``timeout`` seconds.

    One task for all of them: with a timer each, every connection that comes and goes would leave
    one behind, and activity would have to move it.
    """

    def is_idle(connection: Connection) -> bool:
        return connection.last_active <= reactor.now - timeout and connection.idle

    yield from _close_if(is_idle, connections, max(timeout / IDLE_SWEEPS, SHORTEST_IDLE_PAUSE))


def close_overdue(connections: Iterable[Connection], reactor: Reactor) -> Steps:
    """Close the connections whose sessions have a deadline that has passed."""

    def is_overdue(connection: Connection) -> bool:
        deadline = connection.session.deadline
        return deadline is not None and deadline <= reactor.now

    yield from _close_if(is_overdue, connections, OVERDUE_PAUSE)


def _close_if(
    condition: Callable[[Connection], bool], connections: Iterable[Connection], pause: float
) -> Steps:
    """Again and again look at all connections, some in a turn, and close those that meet it."""
    while True:
        yield pause
        looks = LOOKS_A_TURN
        for connection in list(connections):
            looks -= 1
            if condition(connection):
                connection.close()
                looks -= LOOKS_A_CLOSE - 1
            if looks <= 0:
                yield 0.0
                looks = LOOKS_A_TURN


def store_counters(
    counters: Iterable[Tuple[str, str, str, List[Tuple[Dict[str, str], float]]]],
    store: Any,
    wall_clock: Callable[[], float],
) -> Steps:
    """Put the counters into the store, as ``metricsd.points`` and ``metricsd.commits_total``.

    What tells its numbers apart comes last: ``metricsd.connections_total.http``. With no room left,
    or a disk that fails, these points are missing.
    """
    yield 0.0  # not all parts that count may be there yet
    while True:
        keys, values = [], []
        for name, _, _, samples in counters:
            for labels, value in samples:
                keys.append(".".join([name.replace("_", ".", 1), *labels.values()]))
                values.append(float(value))
        while keys and store.room >= len(keys):
            taken, _ = store.put_many(keys, values, [int(wall_clock())] * len(keys))
            del keys[:taken], values[:taken]
        yield COUNTERS_PAUSE


def seal_late(count: Callable[[], int], seal_one: Callable[[], None]) -> Steps:
    """Seal anew the blocks that have late points, a few at a time, until there are none."""
    while count():
        yield LATE_SECONDS
        for number in range(1, count() + 1):
            seal_one()
            if number % SEALS_A_TURN == 0:
                yield 0.0


def too_old(now: float, seconds: float) -> int:
    """The oldest timestamp that is kept for so many seconds."""
    return math.ceil(now - seconds)


def drop_old(
    drop_before: DropBefore,
    seconds: float,
    wall_clock: Callable[[], float] = time.time,
    stopwatch: Callable[[], float] = time.perf_counter,
) -> Steps:
    """Drop the points that are older than ``seconds`` by the wall clock, a slice at a time."""
    pause = min(max(seconds / RETENTION_SWEEPS, SHORTEST_PAUSE), LONGEST_PAUSE)
    worked = 0.0  # seconds, on the last sweep
    while True:
        yield max(pause, worked / WORKING_SHARE)
        worked = 0.0
        start = stopwatch()
        for _ in drop_before(too_old(wall_clock(), seconds)):
            if stopwatch() >= start + SLICE_SECONDS:
                worked += SLICE_SECONDS
                yield 0.0
                start = stopwatch()
