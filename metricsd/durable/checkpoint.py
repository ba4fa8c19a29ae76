"""The checkpoint: what is new in memory goes into the tables, then the log need not tell it.

Owns how that is done a little at a time. It costs what is new, not what there is. Series are saved
one after the other while puts go on, so what is saved is of different moments; running the log
again, from the moment at which the checkpoint began, makes it right.
"""

import time
from functools import partial
from typing import Dict, Iterator, Optional, Tuple

from metricsd.durable.database import Database
from metricsd.durable.saved import Saved, Step
from metricsd.loop import Steps
from metricsd.store import Mirror

# Seconds for which the loop is held at a time.
SLICE_SECONDS = 0.0005

# Rows in a transaction: some milliseconds, for which a commit of puts may have to wait.
STEP_ROWS = 256

# Transactions in which rows of the log are dropped: a few milliseconds each, as well.
LOG_PARTS = 8

# Blocks of a series that may wait for more late points. Those points are saved beside the blocks,
# with the newest ones of the series.
LATE_BLOCKS = 16


def checkpoint(saved: Saved, memory: Mirror, database: Database, logged: int) -> Steps:
    """Save what has changed. After it the log is only needed from behind the row ``logged``.

    Raises what the database raises; then all of it has still to be saved.
    """
    touched, saved.touched = saved.touched, {}
    lost, saved.lost = saved.lost, {}
    try:
        for step in _steps(saved, memory, touched, lost, logged):
            if step is None:
                yield 0.0
            else:
                saved.begin(step)
                yield partial(database.save, step)
                saved.end()
    except BaseException:
        touched.update(saved.touched)
        lost.update(saved.lost)
        saved.touched, saved.lost = touched, lost
        raise


def _steps(
    saved: Saved, memory: Mirror, touched: Dict[str, None], lost: Dict[int, str], logged: int
) -> Iterator[Optional[Step]]:
    """Yield what is to be written, in steps; between them None, for others to have a turn."""
    step = Step(saved.about)
    until = time.perf_counter() + SLICE_SECONDS
    for number, key in _changed(touched, lost):
        series = memory.find(key)
        if number and (series is None or series.number != number):
            saved.drop(step, number)
        elif series is not None:
            while series.seal_late(LATE_BLOCKS):
                memory.note_late(series)
                yield None
            saved.add(step, series, key)
            if number:
                touched.pop(key, None)
        if step.rows >= STEP_ROWS:
            yield step
            step = Step(saved.about)
            until = time.perf_counter() + SLICE_SECONDS
        elif time.perf_counter() > until:
            yield None
            until = time.perf_counter() + SLICE_SECONDS
    yield step
    first = saved.about.logged
    for part in range(1, LOG_PARTS + 1):
        step = Step(saved.about._replace(logged=first + (logged - first) * part // LOG_PARTS))
        yield step


def _changed(touched: Dict[str, None], lost: Dict[int, str]) -> Iterator[Tuple[int, str]]:
    """Yield the series that have lost points, with their numbers, then those that were put to."""
    yield from lost.items()
    for key in touched:  # not before: what was among the lost has been taken out of it
        yield 0, key
