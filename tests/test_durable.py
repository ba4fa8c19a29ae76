"""The durable store by itself: what it has said to be stored is there again."""

import random
import sqlite3
import threading
from pathlib import Path
from typing import Any, List
from unittest import mock

import pytest

from metricsd.durable import FileError, database, gathering, store
from metricsd.store import Receipt, StoreError, archive
from tests.durable_script import Held, Script, copied, killed, loaded, same, small

POLICIES = ["always", "everysec", "never"]


@pytest.fixture(name="tmp_path")
def _tmp_path(quick_path: Path) -> Path:
    return quick_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "points.db"


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_stored_is_there_again(path: Path, tmp_path: Path, policy: str) -> None:
    expected = {"b": {1: 1.5, 3: 2.5}, "a": {2: 0.5}, "ключ": {-5: 1e300}}
    with Held(path, fsync=policy) as held:
        held.put_safely(("b", 0.0, 3), ("a", 0.5, 2), ("b", 1.5, 1))
        held.put_safely(("b", 2.5, 3), ("ключ", 1e300, -5))
        assert held.points == expected and held.store.points == 4
        copy = killed(held, tmp_path / "copy")
    for file in (path, copy):
        found = loaded(file)
        assert found == expected and list(found) == list(expected)


def test_what_commits_cost_is_counted(path: Path) -> None:
    with Held(path) as held, mock.patch.object(store, "RETRY_SECONDS", 0.0):
        held.put_safely(("a", 1.0, 1))
        held.put_safely(("a", 1.0, 2))
        counted = held.store
        assert (counted.commits, counted.commit_failures) == (2, 0)
        assert 0.0 < counted.commit_seconds < 20.0
        assert counted.file_bytes >= path.stat().st_size > 0
        with mock.patch.object(database.Database, "write", side_effect=OSError("no")):
            held.until_settled(held.put(("a", 1.0, 3)))
        assert (counted.commits, counted.commit_failures) == (2, 1)


def test_a_put_is_not_seen_before_it_is_safe(path: Path) -> None:
    with Held(path) as held:
        receipt = held.put(("a", 1.0, 1))
        assert not receipt.settled and held.store.find("a") is None and not held.points
        held.until_settled(receipt)
        assert held.points == {"a": {1: 1.0}}


def test_who_puts_while_a_commit_is_under_way_is_in_the_next_one(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    write = database.Database.write

    def slow(self: database.Database, chunk: object) -> None:
        begun.set()
        assert go_on.wait(20)
        write(self, chunk)  # type: ignore[arg-type]

    with Held(path) as held, mock.patch.object(database.Database, "write", slow):
        first = held.put(("a", 1.0, 1))
        held.until(begun.is_set)
        others = [held.put(("b", 1.0, number)) for number in range(100)]
        held.reactor.turn(0)
        assert held.store.find("a") is None and held.store.find("b") is None
        go_on.set()
        held.until_settled(first, *others)
        assert held.store.commits == 2


def test_a_commit_waits_for_who_was_told_of_the_last_one(path: Path) -> None:
    with Held(path) as held:
        with mock.patch.object(gathering, "WAIT_SECONDS", 20.0):
            held.put_safely(("a", 1.0, 1), ("b", 1.0, 1))
            first = held.put(("a", 1.0, 2))
            for _ in range(5):
                held.reactor.turn(0)
            second = held.put(("b", 1.0, 2))
            held.until_settled(first, second)
        assert held.store.commits == 2
        held.put_safely(("a", 1.0, 3))  # alone: nobody is waited for without end
        with mock.patch.object(gathering, "WAIT_SECONDS", 60.0):  # nor soon again
            held.put_safely(("a", 1.0, 4), ("b", 1.0, 4))
            held.put_safely(("a", 1.0, 5))
        assert held.store.commits == 5


def test_a_disk_that_hangs_holds_up_nothing_else(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hang(self: object, chunk: object) -> None:
        begun.set()
        assert go_on.wait(20)

    with Held(path) as held:
        held.put_safely(("a", 1.0, 1))
        with mock.patch.object(database.Database, "write", hang), mock.patch.object(
            store, "CLOSE_SECONDS", 0.05
        ):
            held.put(("a", 2.0, 2))
            held.until(begun.is_set)
            held.reactor.turn(0)
            assert held.points == {"a": {1: 1.0}}
            ended = held.store._worker._thread
            held.store.close()
            go_on.set()
            ended.join(20)
        held.store = mock.Mock()


@pytest.mark.parametrize("seed", range(6))
def test_random_scripts(tmp_path: Path, seed: int) -> None:
    script = Script(seed)
    path = tmp_path / "points.db"
    with small():
        for life in range(4):
            with Held(path, fsync=POLICIES[seed % 3]) as held:
                assert same(held.points, script.model), life
                for _ in range(15):
                    script.step(held)
                    assert same(held.points, script.model)
                copy = killed(held, tmp_path / str(life))
            assert same(loaded(copy), script.model), life
    assert same(loaded(path), script.model)


def test_a_checkpoint_may_be_cut_short_anywhere(tmp_path: Path) -> None:
    script = Script(1)
    save = database.Database.save
    copies: List[Path] = []

    def copy_too(self: database.Database, *arguments: object) -> None:
        copies.append(copied(Path(self.path), tmp_path / str(len(copies))))
        save(self, *arguments)  # type: ignore[arg-type]

    with small(), mock.patch.object(database.Database, "save", copy_too):
        with Held(tmp_path / "points.db") as held:
            while len(copies) < 40:
                checked = len(copies)
                script.step(held)
                for copy in copies[checked:]:
                    found = loaded(copy)
                    assert list(found) == list(script.model)
    assert same(loaded(tmp_path / "points.db"), script.model)


def test_the_limit_of_points_counts_what_is_pending(path: Path) -> None:
    with Held(path, max_points=3) as held:
        held.put_safely(("a", 1.0, 1))
        assert held.store.room == 2
        receipts = [held.store.put("a", 2.0, 2), held.store.put("a", 3.0, 2)]
        assert held.store.room == 0
        receipts += [held.store.put("a", 3.0, 3), held.store.put("a", 4.0, 1)]
        with pytest.raises(StoreError, match="store is full"):
            held.store.put("a", 1.0, 4)
        receipts.append(held.store.put("a", 5.0, 3))
        held.until_settled(*receipts)
        assert held.points == {"a": {1: 4.0, 2: 3.0, 3: 5.0}} and held.store.room == 0
    with Held(path, max_points=1000) as held:
        dice = random.Random(1)
        model = held.points
        for _ in range(300):
            for _ in range(dice.choice([1, 20])):
                key, timestamp = dice.choice("abc"), dice.randrange(500)
                there = sum(map(len, model.values()))
                if timestamp in model.setdefault(key, {}) or there < 1000:
                    held.store.put(key, 1.0, timestamp)
                    model[key][timestamp] = 1.0
                else:
                    with pytest.raises(StoreError, match="store is full"):
                        held.store.put(key, 1.0, timestamp)
            held.reactor.turn(0)
        held.until(lambda: held.store.room == 0)  # nothing is pending any more
        assert held.points == model and held.store.points == 1000
    with Held(path, max_points=2) as held:
        with pytest.raises(StoreError, match="store is full"):
            held.store.put("a", 1.0, 1000)
        held.until_settled(held.store.put("a", 1.0, 1))


def test_what_waits_is_counted_once_where_room_is_scarce(path: Path) -> None:
    with Held(path, max_points=300) as held, mock.patch.object(store, "CHUNK_PUTS", 100):

        def put_again(count: int) -> Receipt:
            timestamps = [number % 100 for number in range(count)]
            return held.store.put_many(["a"] * count, [2.0] * count, timestamps)[1]

        held.until_settled(put_again(100))
        puts = 0
        with mock.patch.object(held.store, "has", wraps=held.store.has) as looks:
            for _ in range(5):
                first, rest = put_again(100), put_again(150)
                held.store.put("a", 3.0, 1)  # is there room? all that wait are looked for
                held.until_settled(first)
                room = held.store.room
                put_again(room)
                last = held.store.put("a", 3.0, 1)  # and not again
                held.until_settled(rest, last)
                puts += 250 + 1 + room + 1
            assert puts <= looks.call_count < 1.1 * puts
        assert held.store.points == 100


def test_puts_are_held_up_while_too_many_wait(path: Path) -> None:
    go_on = threading.Event()
    with Held(path) as held, mock.patch.object(store, "PENDING_PUTS", 100):
        held.store._worker.call(lambda: go_on.wait(20), lambda *_: None)
        assert held.store.put_many(["a"] * 100, [1.0] * 100, list(range(100)))[0] == 100
        assert held.store.slow_puts == 0
        taken, receipt = held.store.put_many(["b"] * 100, [1.0] * 100, list(range(100)))
        assert (taken, held.store.slow_puts) == (1, 1)
        go_on.set()
        held.until_settled(receipt)
        assert held.points["b"] == {0: 1.0}
        assert held.store.put_many(["b"] * 99, [1.0] * 99, list(range(99)))[0] == 99


def test_a_put_behind_a_drop_takes_room_again(path: Path) -> None:
    with Held(path, max_points=2) as held:
        held.put_safely(("a", 1.0, 1), ("a", 1.0, 2))
        dropped = held.store.drop(["a"])
        receipts = [held.store.put("a", 2.0, 1)]  # there is such a point still
        held.until_settled(dropped)
        receipts.append(held.store.put("b", 2.0, 1))
        with pytest.raises(StoreError, match="store is full"):
            held.store.put("b", 2.0, 2)
        held.until_settled(*receipts)
        assert held.points == {"a": {1: 2.0}, "b": {1: 2.0}}


def test_a_put_that_waits_takes_room_again_while_old_points_are_dropped(path: Path) -> None:
    with Held(path, max_points=2) as held:
        held.put_safely(("a", 1.0, 1), ("b", 1.0, 9))
        receipt = held.store.put("a", 2.0, 1)  # there is such a point still
        with pytest.raises(StoreError, match="store is full"):
            held.store.put("c", 1.0, 9)
        dropping = held.store.drop_before(5)
        while held.store.find("a") is not None:
            next(dropping)
        with pytest.raises(StoreError, match="store is full"):
            held.store.put("c", 1.0, 9)
        held.until_settled(receipt)
        assert held.points == {"a": {1: 2.0}, "b": {9: 1.0}}


def test_a_block_that_is_as_before_may_begin_later(path: Path) -> None:
    """Points before it were late in it; sealed anew it is two blocks, of which one is the same."""
    with mock.patch.object(archive, "MAX_BLOCK_POINTS", 200), mock.patch.object(
        archive, "LATE_POINTS", 10000
    ):
        with Held(path) as held:
            held.put_safely(*(("a", 1.0, 1000 + number) for number in range(152)))
            held.put_safely(("a", 2.0, 31))
        with Held(path) as held:
            held.put_safely(*(("a", 2.0, number) for number in range(32, 182)))
            held.store.seal_late()
            assert held.store.late_blocks == 0
        with Held(path) as held:
            held.put_safely(("a", 3.0, 100))
            assert held.store.points == 303
            found = list(held.points["a"])
            assert found == sorted(found) and held.points["a"][100] == 3.0


def test_keys_that_come_and_go_leave_nothing_behind(path: Path) -> None:
    with small(), Held(path) as held:
        for number in range(400):
            held.put_safely((f"key{number}", 1.0, 1))
            held.until_settled(held.store.drop([f"key{number}"]))
        assert held.store.checkpoints > 4 and len(held.store._saved.kept) < 100
        assert not held.points


def test_what_is_refused_takes_no_room(path: Path) -> None:
    with Held(path, max_points=3) as held:
        receipts = [held.store.put("a", value, 1) for value in (1.0, 2.0, 3.0)]
        held.until(lambda: held.store._writing)
        waits = held.store.put("b", 1.0, 1)
        held.store._fail(OSError("no"))  # a sync or a checkpoint, while these are written
        assert waits.refusal is not None
        held.until_settled(*receipts, held.store.put("c", 1.0, 1), held.store.put("d", 1.0, 1))
        assert held.points == {"a": {1: 3.0}, "c": {1: 1.0}, "d": {1: 1.0}}


def test_what_waits_when_it_is_closed_is_stored(path: Path) -> None:
    held = Held(path)
    receipts = [held.put(("a", 1.0, number)) for number in range(3000)]
    held.__exit__()
    assert all(receipt.settled and receipt.refusal is None for receipt in receipts)
    assert len(loaded(path)["a"]) == 3000


def test_many_puts_at_once(path: Path) -> None:
    """They are stored a little at a time, late ones too, and their receipts are settled then."""
    late = [("late", 1.0, number) for number in reversed(range(3000))]
    with Held(path) as held:
        held.put_safely(*[("late", 0.0, number) for number in range(3000)])
        receipts = [held.put(*late)] + [held.put((f"k{n % 7}", 1.0, n)) for n in range(5000)]
        held.until_settled(*receipts)
        assert held.store.commits <= 4
        expected = held.points
        assert len(expected["late"]) == 3000 and set(expected["late"].values()) == {1.0}
    assert same(loaded(path), expected)


def test_puts_wait_while_the_log_is_full(path: Path) -> None:
    """It is emptied by a checkpoint; until then they are neither refused nor added to it."""
    begun, go_on = threading.Event(), threading.Event()
    save = database.Database.save

    def slow(self: database.Database, step: Any) -> None:
        begun.set()
        assert go_on.wait(20)
        save(self, step)

    with small(4096), Held(path) as held:
        with mock.patch.object(database.Database, "save", slow):
            receipts = []
            for number in range(1000):
                receipts.append(held.put(("a", 1.0, number)))
                held.reactor.turn(0)
            held.until(begun.is_set)
            assert not receipts[-1].settled
            go_on.set()
            held.until_settled(*receipts)
        assert held.store.checkpoints > 1 and held.store.log_bytes < 4096
        assert len(held.points["a"]) == 1000


class Failing:
    """A connection of which one call fails; then the disk is well again."""

    def __init__(self, connection: sqlite3.Connection, fails: int) -> None:
        self._connection = connection
        self.left = fails

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if not callable(found) or name == "close":
            return found

        def call(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise sqlite3.OperationalError("disk I/O error")
            return found(*arguments)

        return call


@pytest.mark.parametrize("fails", range(1, 60, 4))
def test_any_call_may_fail_once(path: Path, tmp_path: Path, fails: int) -> None:
    script = Script(fails)
    with small(2000), mock.patch.object(store, "RETRY_SECONDS", 0.0):
        with Held(path) as held:
            inside = held.store._database
            failing = inside._connection = Failing(inside._connection, fails)  # type: ignore
            for _ in range(8):
                script.step(held, may_fail=True)
                assert same(held.points, script.model)
            while failing.left > 0:
                script.step(held, may_fail=True)
            held.until(lambda: held.store.commit_failures)  # or it may be refused for this one
            held.put_safely(("last", 1.0, 1))  # which takes what was refused out of the files
            copy = killed(held, tmp_path / "copy")
        for file in (path, copy):
            found = loaded(file)
            assert found.pop("last") == {1: 1.0}
            assert same(found, script.model)


def test_keys_that_can_not_be_kept_apart_are_refused(path: Path) -> None:
    with Held(path) as held, mock.patch.object(store, "RETRY_SECONDS", 0.0):
        for key in ("a\nb", "\ud800"):
            receipt = held.put((key, 1.0, 1))
            held.until_settled(receipt)
            assert str(receipt.refusal) == "not stored"
        held.put_safely(("a", 1.0, 1))
        assert held.points == {"a": {1: 1.0}}


def test_a_series_that_comes_back_is_the_last_one(path: Path, tmp_path: Path) -> None:
    with Held(path) as held:
        held.put_safely(("a", 1.0, 1), ("b", 1.0, 5))
    with Held(path) as held:
        held.drop_before(3)
        held.put_safely(("c", 1.0, 5), ("a", 1.0, 6))
        copy = killed(held, tmp_path / "copy")
    for file in (path, copy):
        found = loaded(file)
        assert list(found) == ["b", "c", "a"] and found["a"] == {6: 1.0}


def test_late_points_of_many_blocks(path: Path) -> None:
    with Held(path) as held:
        for start in range(0, 240 * 40, 480):
            held.put_safely(*[("a", 1.0, 2 * number) for number in range(start, start + 480)])
        for start in range(0, 240 * 40, 480):
            held.put_safely(*[("a", 2.0, 2 * n + n % 2) for n in range(start, start + 480, 100)])
        expected = held.points
    assert same(loaded(path), expected)


def test_no_thread_is_left(path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(FileError):
        Held(path.parent)
    with Held(path):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_no_thread_to_be_had(path: Path) -> None:
    with mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
        with pytest.raises(FileError, match="can't start new thread"):
            Held(path)
    assert loaded(path) == {}
