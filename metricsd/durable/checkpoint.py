"""The checkpoint: what is new in memory goes into the tables, then the log need not tell it.

Owns what of memory is in the file, and how the rest gets there a little at a time. It costs what is
new, not what there is. Series are saved one after the other while puts go on, so what is saved is
of different moments; running the log again, from the moment at which the checkpoint began, makes it
right.
"""

import time
from functools import partial
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from metricsd.durable.tables import About, Row, with_checksum
from metricsd.loop import Steps
from metricsd.store import Mirror, Series, save, seal

# Seconds for which the loop is held at a time, also to store what has been written.
SLICE_SECONDS = 0.0005

# Rows in a transaction: some milliseconds, for which a commit of puts may have to wait.
STEP_ROWS = 256

# Transactions in which rows of the log are dropped: a few milliseconds each, as well.
LOG_PARTS = 8

# Blocks of a series that may wait for more late points. Those points are saved beside the blocks,
# with the newest ones of the series.
LATE_BLOCKS = 16

SAVE_SERIES = "REPLACE INTO series VALUES (?, ?, ?, ?, ?, ?, ?)"
SAVE_BLOCK = "INSERT INTO blocks VALUES (?, ?, ?, ?, ?)"
DROP_SERIES = "DELETE FROM series WHERE id = ?"
DROP_BLOCK = "DELETE FROM blocks WHERE id = ?"

Block = Tuple[bytes, int]  # its points, and the timestamp before which it has none


class Kept(NamedTuple):
    """What the file has of a series."""

    number: int  # of the series
    blocks: List[Block]  # as they are in memory
    ids: List[int]  # of these, in the file


NOTHING = Kept(0, [], [])


class Step:
    """What is written in one transaction, and what the file has then."""

    def __init__(self, about: About) -> None:
        self.about = about
        self.rows: List[Tuple[str, Row]] = []  # each with what is done with it
        self.kept: Dict[str, Kept] = {}  # of these keys


class Saved:
    """What is in the file, and what has changed since."""

    def __init__(self, about: About) -> None:
        self.about = about
        self.kept: Dict[str, Kept] = {}  # by key; of every series that is there
        self.last_block = 0  # the last id that was given
        self.last_logged = 0  # the last id of the log
        self.changed: Dict[str, object] = {}  # keys that were put to, or have lost points, since

    def lose(self, key: str) -> None:
        """A series has lost points, and is gone if these were all."""
        self.changed[key] = None

    def add(self, step: Step, key: str, series: Optional[Series]) -> None:
        """Add to a step what has changed of a series, which may be gone."""
        number, old, ids = self.kept.get(key, NOTHING)
        if number and (series is None or series.number != number):
            step.rows.append((DROP_SERIES, (number,)))
        blocks: List[Block] = []
        if series is not None:
            sealed, firsts, sealed_to, unsealed = save(series)
            blocks = list(zip(sealed, firsts))
            rest = seal(unsealed) if unsealed[0] else b""
            fields = series.number, key, len(blocks), len(series), sealed_to, rest
            step.rows.append((SAVE_SERIES, with_checksum("series", *fields)))
        same = len(old) if blocks[: len(old)] == old else 0  # nearly always all that were there
        known = dict(zip(old[same:], ids[same:]))
        ids = ids[:same]
        for block in blocks[same:]:
            if block not in known:  # also one that is the same, but may begin elsewhere
                self.last_block += 1
                row = with_checksum("blocks", self.last_block, key, block[1], block[0])
                step.rows.append((SAVE_BLOCK, row))
            ids.append(known.pop(block, self.last_block))
        step.rows += [(DROP_BLOCK, (gone,)) for gone in known.values()]
        step.kept[key] = NOTHING if series is None else Kept(series.number, blocks, ids)
        more = (series is not None) - (number > 0)
        step.about = step.about._replace(series=step.about.series + more)

    def note(self, step: Step) -> None:
        """A step has been written."""
        self.about = step.about
        self.kept.update(step.kept)
        for key, kept in step.kept.items():
            if kept is NOTHING:
                del self.kept[key]


def checkpoint(saved: Saved, memory: Mirror, write: Callable[[Step], None], logged: int) -> Steps:
    """Save what has changed. After it the log is only needed from behind the row ``logged``.

    Raises what ``write`` raises; then all of it has still to be saved.
    """
    changed, saved.changed = saved.changed, {}
    step, until = Step(saved.about), time.perf_counter() + SLICE_SECONDS
    try:
        for key in changed:
            series = memory.find(key)
            while series is not None and series.seal_late(LATE_BLOCKS):
                memory.note_late(series)
                yield 0.0
            saved.add(step, key, series)
            if len(step.rows) >= STEP_ROWS:
                yield partial(write, step)
                step, until = Step(saved.about), time.perf_counter() + SLICE_SECONDS
            elif time.perf_counter() > until:
                yield 0.0
                until = time.perf_counter() + SLICE_SECONDS
        yield partial(write, step)
        first = saved.about.logged
        for part in range(1, LOG_PARTS + 1):
            upto = first + (logged - first) * part // LOG_PARTS
            yield partial(write, Step(saved.about._replace(logged=upto)))
    except BaseException:
        changed.update(saved.changed)
        saved.changed = changed
        raise
