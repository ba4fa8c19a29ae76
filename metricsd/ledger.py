"""The ledger: puts that wait for the commit of their turn.

Owns what has been put and is not yet stored. To sessions it is the store; gets see what is in the
store itself. Does not know files: whoever commits asks for the lines to write.
"""

from typing import List, Optional, Set, Tuple, Union

from metricsd.store import Store, StoreError


class Ledger:
    """A store whose puts are kept apart until they are either stored or refused, all of them."""

    journaled = True  # an `ok` to a put holds only after the commit

    def __init__(self, store: Store) -> None:
        self._store = store
        self.find = store.find
        self.every = store.every
        self.kept_replies = store.kept_replies
        self.refused = False  # the puts of the last commit
        self._forget()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def room(self) -> int:
        """For so many more points there is room in any case; maybe for more, if some overwrite."""
        return self._store.room - len(self._keys)

    @property
    def lines(self) -> bytes:
        """The puts as requests, in their order: whoever runs them again has the same points."""
        return b"".join(self._lines)

    def put(self, key: str, value: float, timestamp: int, line: bytes = b"") -> None:
        """Note one measurement, and the line that it came in.

        Raises StoreError if there is no room for one more point.
        """
        if self._new is not None or self.room <= 0:
            self._find_room(key, timestamp)
        self._keys.append(key)
        self._values.append(value)
        self._timestamps.append(timestamp)
        self._lines.append(line or f"put {key} {value!r} {timestamp}\n".encode())

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int], lines: bytes
    ) -> None:
        """Note measurements, which are also given as lines; there must be room for all."""
        self._keys += keys
        self._values += values
        self._timestamps += timestamps
        self._lines.append(lines)

    def store(self) -> None:
        """The puts are safe: let everybody see them."""
        self._store.put_many(self._keys, self._values, self._timestamps)
        self.refused = False
        self._forget()

    def refuse(self) -> None:
        """The puts could not be made safe: they never were."""
        self.refused = True
        self._forget()

    def _forget(self) -> None:
        self._keys: List[str] = []
        self._values: List[float] = []
        self._timestamps: List[int] = []
        self._lines: List[bytes] = []
        # Near the limit of points it has to be known which of these are new.
        self._new: Optional[Set[Tuple[str, int]]] = None

    def _find_room(self, key: str, timestamp: int) -> None:
        """Count exactly. Raises StoreError if this would be one point too many."""
        if self._new is None:
            noted = zip(self._keys, self._timestamps)
            self._new = {point for point in noted if not self._store.has(*point)}
        if (key, timestamp) in self._new or self._store.has(key, timestamp):
            return
        if self._store.room <= len(self._new):
            raise StoreError("store is full")
        self._new.add((key, timestamp))


AnyStore = Union[Store, Ledger]  # what sessions and commands work on
