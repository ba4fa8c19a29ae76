"""A store for demonstrations: it stands for a disk that takes its time, or fails.

Owns when puts are settled: when it is told so. Does not keep points: the memory behind it does.
"""

from typing import Callable, Iterator, List, Optional, Tuple

from metricsd.store import Memory, Receipt, Series, Store, StoreError, put_all

Points = Tuple[List[str], List[float], List[int]]
Post = Callable[[Callable[[], None]], None]


class Disk(Store):
    """Points go to the memory behind it; while it is ``slow``, only with the next ``flush``."""

    def __init__(self, memory: Memory, post: Post) -> None:
        """Settle receipts in calls that ``post`` makes, as the ones of a thread would be."""
        self.slow = False
        self._memory = memory
        self._post = post
        self._puts: List[Points] = []  # since the last flush
        self._receipt = Receipt()  # of all of them

    @property
    def room(self) -> int:
        """The points for which there is room in any case."""
        return self._memory.room

    def put(self, key: str, value: float, timestamp: int) -> Receipt:
        """Take one point."""
        return self.put_many([key], [value], [timestamp])[1]

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int]
    ) -> Tuple[int, Receipt]:
        """Take points in their order."""
        if not self.slow:
            return self._memory.put_many(keys, values, timestamps)
        self._puts.append((keys, values, timestamps))
        return len(keys), self._receipt

    def flush(self, refusal: Optional[StoreError] = None) -> None:
        """All that has been put is safe now, or refused: say so in the next turn."""
        puts, self._puts = self._puts, []
        receipt, self._receipt = self._receipt, Receipt()

        def settle() -> None:
            if refusal is None:
                for points in puts:
                    put_all(self._memory, *points)
            receipt.settle(refusal)

        self._post(settle)

    def find(self, key: str) -> Optional[Series]:
        """The series of a key; None if there is none."""
        return self._memory.find(key)

    def items(self) -> Iterator[Tuple[str, Series]]:
        """Yield every key that is there now, with its series."""
        return self._memory.items()

    def drop_before(self, oldest: int) -> Iterator[None]:
        """Drop every point before a timestamp."""
        return self._memory.drop_before(oldest)

    @property
    def late_blocks(self) -> int:
        """The blocks that have grown by late points."""
        return self._memory.late_blocks

    def seal_late(self) -> None:
        """Make one of them smaller; nobody is told."""
        self._memory.seal_late()

    def close(self) -> None:
        """Give back what the memory holds, which is nothing."""
        self._memory.close()
