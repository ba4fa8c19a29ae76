"""Damaged files: no bit and no byte is missing without a word, and what is whole can be saved."""

import logging
import random
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from metricsd.durable.checkpoint import Saved
from metricsd.durable.database import PAGE_BYTES, Database
from metricsd.durable.tables import About, Chunk
from metricsd.durable.wal import HEADER
from tests.conftest import quick_folder
from tests.durable_damage import Original, cut, flipped, outcome, read, write
from tests.durable_script import Held, killed, loaded, same


@pytest.fixture(name="tmp_path")
def _tmp_path(quick_path: Path) -> Path:
    return quick_path


@pytest.fixture(scope="module", name="original")
def _original() -> Original:
    with quick_folder() as folder:
        return Original(folder, "always")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", ["points.db", "points.db-wal"])
@pytest.mark.parametrize("seed", range(2))
def test_flips(original: Original, tmp_path: Path, name: str, seed: int) -> None:
    dice = random.Random(seed)
    source = original.closed if name == "points.db" else original.killed
    outcomes = set()
    for _ in range(30):
        files = dict(source)
        files[name] = flipped(source[name], dice.randrange(8 * len(source[name])))
        outcomes.add(outcome(original, write(tmp_path / "files", files)))
    assert "stopped" in outcomes and "last put lost" not in outcomes


def test_a_flip_in_the_words_that_explain_a_table(original: Original, tmp_path: Path) -> None:
    data = original.closed["points.db"]
    place = data.index(b"-- One row")
    for bit in range(8):
        files = {"points.db": flipped(data, 8 * place + bit)}
        assert outcome(original, write(tmp_path / "files", files)) == "stopped"


def test_flips_where_nobody_knows_how_far_the_wal_went(original: Original, tmp_path: Path) -> None:
    """Without its index, as after a power cut, the last transaction may have been cut short."""
    size = len(original.killed["points.db-wal"])
    found = set()
    for place in range(size - 1, 32, -5003):
        data = flipped(original.killed["points.db-wal"], 8 * place)
        files = {"points.db": original.killed["points.db"], "points.db-wal": data}
        found.add(outcome(original, write(tmp_path / "files", files)))
    assert found == {"stopped", "last put lost"}


@pytest.mark.parametrize("name", ["points.db", "points.db-wal"])
def test_cuts(original: Original, tmp_path: Path, name: str) -> None:
    dice = random.Random(1)
    source = original.closed if name == "points.db" else original.killed
    found = set()
    for _ in range(25):
        files = dict(source)
        files[name] = cut(source[name], dice)
        found.add(outcome(original, write(tmp_path / "files", files)))
    assert "stopped" in found and found <= {"stopped", "harmless", "nothing left"}


@pytest.mark.parametrize("policy", ["everysec", "never"])
def test_a_hole_that_a_power_cut_may_leave(tmp_path: Path, policy: str, caplog: Any) -> None:
    logging.disable(logging.NOTSET)
    path = tmp_path / "points.db"
    with Held(path, fsync=policy) as held:
        for number in range(10):
            held.put_safely(("a", 1.0, number))
        files = read(killed(held, tmp_path / "killed").parent)
    data = bytearray(files["points.db-wal"])
    data[len(data) // 2] ^= 1
    files["points.db-wal"] = bytes(data)
    again = write(tmp_path / "again", files)
    found = loaded(again)
    assert 0 < len(found["a"]) < 10
    assert "are left out" in caplog.text and str(again) + ".damaged1" in caplog.text
    assert read(again.parent, "*.damaged1-wal") == {"points.db.damaged1-wal": bytes(data)}
    assert loaded(again) == found
    assert 9 in loaded(Path(f"{again}.damaged1"), salvage=True)["a"]  # what comes behind it


def test_what_is_lost_is_told(original: Original, tmp_path: Path, caplog: Any) -> None:
    logging.disable(logging.NOTSET)
    path = write(tmp_path / "files", original.closed)
    data = bytearray(original.closed["points.db"])
    data[data.index("ключ".encode())] ^= 1
    path.write_bytes(bytes(data))
    left = path.with_name(path.name + ".damaged1-wal")  # by one that was killed
    left.write_bytes(b"left")
    loaded(path, salvage=True)
    assert "lost: " in caplog.text and "points were salvaged" in caplog.text
    assert path.with_name(path.name + ".damaged2").read_bytes() == bytes(data)
    assert left.read_bytes() == b"left"


def test_rows_behind_a_broken_page_of_an_old_log(tmp_path: Path) -> None:
    path, first, count = tmp_path / "points.db", 10**7 + 1, 400
    path.touch()
    saved = Saved(About("always", logged=first - 1))
    with closing(Database(str(path), saved, ExitStack())) as database:
        database.saved.last_logged = first - 1
        for number in range(first, first + count):
            chunk = Chunk()
            chunk.keys, chunk.values, chunk.timestamps = [f"key{number}"], [1.0], [number]
            database.write(chunk)
    data = bytearray(path.read_bytes())
    page = data.index(f"key{first}".encode()) // PAGE_BYTES * PAGE_BYTES
    in_page = data.count(b"key", page, page + PAGE_BYTES)
    data[page] ^= 32  # what kind of a page it is
    path.write_bytes(bytes(data))
    found = loaded(path, salvage=True)
    assert list(found) == [f"key{number}" for number in range(first + in_page, first + count)]


def test_what_is_lost_of_the_wal_is_told(original: Original, tmp_path: Path, caplog: Any) -> None:
    logging.disable(logging.NOTSET)
    files = dict(original.killed)
    files["points.db-wal"] = files["points.db-wal"][:-1]
    path = write(tmp_path / "files", files)
    assert "last" not in loaded(path, salvage=True)
    assert "lost: maybe some of the last puts: its WAL, frame" in caplog.text


def test_a_flip_in_the_header_of_a_wal(original: Original, tmp_path: Path) -> None:
    data = original.killed["points.db-wal"]
    for place in range(0, HEADER.size, 3):
        files = dict(original.killed, **{"points.db-wal": flipped(data, 8 * place)})
        path = write(tmp_path / "files", files)
        assert same(loaded(path, salvage=True), original.script.model)


@pytest.mark.parametrize("size", [None, 0, 20])
def test_a_wal_that_is_missing(original: Original, tmp_path: Path, size: Optional[int]) -> None:
    """Its index, which outlives a process that was killed, knows that there was one."""
    files = dict(original.killed)
    wal = files.pop("points.db-wal")
    if size is not None:
        files["points.db-wal"] = wal[:size]
    assert outcome(original, write(tmp_path / "files", files)) == "stopped"
