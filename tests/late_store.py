"""A store whose receipts stay open until a test settles them."""

from typing import Callable, Iterator, List, Optional, Tuple

from metricsd.store import Memory, Receipt, Series, Store, StoreError

Points = Tuple[List[str], List[float], List[int]]


class LateStore(Store):
    """Points are in memory once their receipt is settled."""

    def __init__(self, one_for_all: bool = True) -> None:
        """Give one receipt for all puts until they are settled, or one for each."""
        self.memory = Memory()
        self.open: List[Tuple[Receipt, Points]] = []
        self.on_put: Callable[[], None] = lambda: None
        self._one_for_all = one_for_all

    @property
    def room(self) -> int:
        return self.memory.room

    def put(self, key: str, value: float, timestamp: int) -> Receipt:
        return self.put_many([key], [value], [timestamp])[1]

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int]
    ) -> Tuple[int, Receipt]:
        if self._one_for_all and self.open:
            receipt, points = self.open[-1]
            for column, more in zip(points, (keys, values, timestamps)):
                column.extend(more)  # type: ignore[attr-defined]
        else:
            receipt = Receipt()
            self.open.append((receipt, (list(keys), list(values), list(timestamps))))
        self.on_put()
        return len(keys), receipt

    def settle(self, refusal: Optional[StoreError] = None, which: int = 0) -> None:
        receipt, points = self.open.pop(which)
        if refusal is None:
            for point in zip(*points):
                self.memory.put(*point)
        receipt.settle(refusal)

    def find(self, key: str) -> Optional[Series]:
        return self.memory.find(key)

    def items(self) -> Iterator[Tuple[str, Series]]:
        return self.memory.items()

    def drop_before(self, oldest: int) -> Iterator[None]:
        return self.memory.drop_before(oldest)

    @property
    def late_blocks(self) -> int:
        return self.memory.late_blocks

    def seal_late(self) -> None:
        self.memory.seal_late()

    def close(self) -> None:
        pass
