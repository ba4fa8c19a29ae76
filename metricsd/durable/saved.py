"""What the file has of the memory: which blocks, and which series have changed since.

Owns the difference between the two, and makes the rows that take it away. Does not write them.
"""

from typing import Dict, List, Optional, Tuple

from metricsd.durable.tables import About, Row
from metricsd.store import Series, save, seal

Blocks = Tuple[List[bytes], List[int]]  # as they are in memory, and their ids in the file


class Step:
    """What a checkpoint writes in one transaction: rows without their checksums, and ids."""

    def __init__(self, about: About) -> None:
        self.about = about  # when it has been written
        self.written = False
        self.series: List[Row] = []
        self.blocks: List[Row] = []
        self.dropped_series: List[Tuple[int]] = []
        self.dropped_blocks: List[Tuple[int]] = []
        self.saved: Dict[int, Blocks] = {}  # of the series that are in it

    @property
    def rows(self) -> int:
        """How much there is to do."""
        return len(self.series) + len(self.blocks) + len(self.dropped_blocks)


class Saved:
    """What is in the file, apart from its log."""

    def __init__(self, about: About) -> None:
        self.about = about
        self.blocks: Dict[int, Blocks] = {}  # by the number of the series; of every one saved
        self.last_block = 0  # the last id that was given
        self.touched: Dict[str, None] = {}  # keys that were put to since, in that order
        self.lost: Dict[int, str] = {}  # numbers and keys of series that have lost points since
        self.losses = 0  # how often one has
        self._writing: Optional[Step] = None

    def lose(self, key: str, series: Series) -> None:
        """A series has lost points, and is gone if these were all."""
        self.lost[series.number] = key
        self.losses += 1

    def drop(self, step: Step, number: int) -> None:
        """Add to a step that a series is gone."""
        if number in self.blocks:
            step.dropped_series.append((number,))
            step.dropped_blocks += [(gone,) for gone in self.blocks[number][1]]

    def add(self, step: Step, series: Series, key: str) -> None:
        """Add to a step what has changed of a series: the blocks that are new, and its row."""
        sealed, firsts, sealed_to, unsealed = save(series)
        old, old_ids = self.blocks.get(series.number, ([], []))
        ids = old_ids[:]
        new = len(old)
        if sealed[:new] != old:  # others than the last ones have changed
            kept = dict(zip(old, old_ids))
            ids = [kept.pop(block, 0) for block in sealed]
            step.dropped_blocks += [(gone,) for gone in kept.values()]
            new = 0
        ids += [0] * (len(sealed) - len(ids))
        for index in range(new, len(sealed)):
            if not ids[index]:
                self.last_block += 1
                ids[index] = self.last_block
                row = self.last_block, key, firsts[index], sealed[index]
                step.blocks.append(row)
        step.saved[series.number] = sealed, ids
        rest = seal(unsealed) if unsealed[0] else b""
        step.series.append((series.number, key, len(sealed), len(series), sealed_to, rest))

    def begin(self, step: Step) -> None:
        """Say what will be there when a step, to which nothing more is added, has been written."""
        new = sum(number not in self.blocks for number in step.saved)
        step.about = step.about._replace(
            series=self.about.series + new - len(step.dropped_series),
            blocks=self.about.blocks + len(step.blocks) - len(step.dropped_blocks),
        )
        self._writing = step

    def end(self) -> None:
        """Note what the last step that has begun has changed, if it has been written."""
        step, self._writing = self._writing, None
        if step is not None and step.written:
            self.about = step.about
            self.blocks.update(step.saved)
            for (number,) in step.dropped_series:
                del self.blocks[number]
