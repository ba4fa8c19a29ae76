"""A durable store without a server, taken through turns by hand; and random scripts for it."""

import contextlib
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Set, Tuple
from unittest import mock

from metricsd.durable import DurableStore, checkpoint, store
from metricsd.loop import Reactor
from metricsd.store import Receipt
from tests.model import points

SECONDS = 20.0  # what takes longer does not happen

Points = Dict[str, Dict[int, float]]


class Held:
    """A store that is open: ``with Held(path) as held``."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.reactor = Reactor()
        try:
            self.store = DurableStore(str(path), self.reactor, **options)
        except BaseException:
            self.reactor.close()
            raise

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.reactor.close()

    def put(self, *puts: Tuple[str, float, int]) -> Receipt:
        keys, values, timestamps = zip(*puts)
        return self.store.put_many(list(keys), list(values), list(timestamps))[1]

    def put_safely(self, *puts: Tuple[str, float, int]) -> None:
        receipt = self.put(*puts)
        self.until_settled(receipt)
        assert receipt.refusal is None

    def until_settled(self, *receipts: Receipt) -> None:
        self.until(lambda: all(receipt.settled for receipt in receipts))

    def until(self, condition: Any) -> None:
        """Take turns until something is so."""
        deadline = time.monotonic() + SECONDS
        self.reactor.turn(0)  # in which what has been put would have come
        while not condition():
            assert time.monotonic() < deadline, "it does not happen"
            self.reactor.turn(0.1)

    def drop_before(self, oldest: int) -> None:
        for _ in self.store.drop_before(oldest):
            pass

    @property
    def points(self) -> Points:
        return points(self.store)


def killed(held: Held, copy: Path) -> Path:
    """What a process that is killed now would leave: a copy of the files.

    Taken in the thread that writes them: at any other time they would not be of one moment.
    """
    done = threading.Event()
    held.store._worker.call(lambda: copied(held.path, copy), lambda _, error: None)
    held.store._worker.call(done.set, lambda _, error: None)
    assert done.wait(SECONDS)
    return copy / held.path.name


def copied(path: Path, copy: Path) -> Path:
    copy.mkdir()
    for file in path.parent.glob(path.name + "*"):
        shutil.copy(str(file), str(copy))
    return copy / path.name


def loaded(path: Path, **options: Any) -> Points:
    """What is in a file."""
    with Held(path, **options) as held:
        return held.points


def same(one: Points, other: Points) -> bool:
    """Whether keys, their order, points and their order are the same; nan is nan."""
    return repr([(key, list(one[key].items())) for key in one]) == repr(
        [(key, sorted(other[key].items())) for key in other]
    )


@contextlib.contextmanager
def small(log_bytes: int = 4096) -> Iterator[None]:
    """Checkpoints begin after a few puts, and take several steps."""
    with mock.patch.object(store, "LOG_BYTES", log_bytes), mock.patch.object(
        checkpoint, "STEP_ROWS", 3
    ), mock.patch.object(store, "CHUNK_PUTS", 50):
        yield


class Script:
    """Random puts and deletions on a store, and on a model of it."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.model: Points = {}
        self.ever: Set[Tuple[str, int, str]] = set()  # all that has been put
        self.now = 0  # most puts are newer than all before them

    def step(self, held: Held, may_fail: bool = False) -> None:
        dice = self._dice
        if dice.random() < 0.05:
            oldest = self.now - dice.randrange(400)
            held.drop_before(oldest)
            self.drop(oldest)
            return
        puts = [self._put() for _ in range(dice.choice([1, 3, 30, 120]))]
        receipt = held.put(*puts)
        held.until_settled(receipt)
        assert may_fail or receipt.refusal is None
        if receipt.refusal is not None:
            return
        for key, value, timestamp in puts:
            self.model.setdefault(key, {})[timestamp] = value
            self.ever.add((key, timestamp, repr(value)))

    def drop(self, oldest: int) -> None:
        for key in list(self.model):
            kept = {time: value for time, value in self.model[key].items() if time >= oldest}
            self.model[key] = kept
            if not kept:
                del self.model[key]

    def _put(self) -> Tuple[str, float, int]:
        dice = self._dice
        self.now += dice.randrange(3)
        late = dice.random() < 0.2
        timestamp = self.now - dice.randrange(1000) if late else self.now
        value = dice.choice([dice.random(), 1.5, float("nan"), float("-inf"), -0.0, 1e300])
        return dice.choice(["cpu", "mem", "ключ", "\x00", "k" * 300, "rare"]), value, timestamp
