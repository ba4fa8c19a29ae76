"""Damaged files: no bit and no byte is missing without a word, and what is whole can be saved."""

import logging
import random
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple
from unittest import mock

import pytest

from metricsd.durable import FileError, reading
from tests.durable_script import Held, Points, Script, killed, loaded, same, small

Files = Dict[str, bytes]


class Original:
    """The files of a store that was killed, what was in it, and what was before its last put."""

    def __init__(self, folder: Path, policy: str) -> None:
        self.script = Script(1)
        path = folder / "points.db"
        with small():
            with Held(path, fsync=policy) as held:
                for _ in range(20):
                    self.script.step(held)
        with Held(path, fsync=policy) as held:
            for _ in range(10):
                self.script.step(held)
            held.put_safely(("last", 1.0, 1))
            self.killed = read(killed(held, folder / "killed").parent)
        self.closed = read(folder, "points.db")
        self.before = {key: dict(points) for key, points in self.script.model.items()}
        self.script.model["last"] = {1: 1.0}
        self.script.ever.add(("last", 1, "1.0"))


def read(folder: Path, pattern: str = "*") -> Files:
    return {file.name: file.read_bytes() for file in folder.glob(pattern)}


def write(folder: Path, files: Files) -> Path:
    if folder.exists():
        shutil.rmtree(str(folder))
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "points.db"


def tried(path: Path, **options: Any) -> Tuple[Optional[Points], str]:
    """What is in a file, or why it can't be told."""
    try:
        return loaded(path, **options), ""
    except FileError as error:
        return None, str(error)


def outcome(original: Original, path: Path) -> str:
    """What becomes of damaged files: harmless, stopped and then salvaged, or the last put is lost.

    A start that is refused changes nothing; a salvage puts them aside as they are, and invents
    nothing.
    """
    files = read(path.parent)
    found, refusal = tried(path)
    if found is None:
        assert read(path.parent) == files
        assert "\n" not in refusal
        salvaged, refusal = tried(path, salvage=True)
        if salvaged is None:
            assert read(path.parent) == files
            assert re.search("it is empty|nothing in it|no table", refusal)
            return "nothing left"
        for key, points in salvaged.items():
            for timestamp, value in points.items():
                assert (key, timestamp, repr(value)) in original.script.ever
        aside = {
            name.replace(".damaged1", ""): data
            for name, data in read(path.parent, "*.damaged*").items()
        }
        assert aside == {name: data for name, data in files.items() if not name.endswith("-shm")}
        assert same(loaded(path), salvaged)
        return "stopped"
    if same(found, original.script.model):
        return "harmless"
    assert same(found, original.before), "something is missing without a word"
    return "last put lost"


@pytest.fixture(scope="module", name="original")
def _original(tmp_path_factory: Any) -> Original:
    return Original(tmp_path_factory.mktemp("original"), "always")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with mock.patch.object(reading, "SEEK_IDS", 300):
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", ["points.db", "points.db-wal"])
@pytest.mark.parametrize("seed", range(2))
def test_flips(original: Original, tmp_path: Path, name: str, seed: int) -> None:
    dice = random.Random(seed)
    source = original.closed if name == "points.db" else original.killed
    outcomes = set()
    for _ in range(50):
        data = bytearray(source[name])
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        files = dict(source)
        files[name] = bytes(data)
        outcomes.add(outcome(original, write(tmp_path / "files", files)))
    assert "stopped" in outcomes and "last put lost" not in outcomes


def test_flips_where_nobody_knows_how_far_the_wal_went(original: Original, tmp_path: Path) -> None:
    """Without its index, as after a power cut, the last transaction may have been cut short."""
    size = len(original.killed["points.db-wal"])
    found = set()
    for place in range(size - 1, 32, -997):
        data = bytearray(original.killed["points.db-wal"])
        data[place] ^= 1
        files = {"points.db": original.killed["points.db"], "points.db-wal": bytes(data)}
        found.add(outcome(original, write(tmp_path / "files", files)))
    assert found == {"stopped", "last put lost"}


@pytest.mark.parametrize("name", ["points.db", "points.db-wal"])
def test_cuts(original: Original, tmp_path: Path, name: str) -> None:
    dice = random.Random(1)
    source = original.closed if name == "points.db" else original.killed
    found = set()
    for _ in range(40):
        files = dict(source)
        files[name] = source[name][: dice.randrange(len(source[name]))]
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


def test_what_is_lost_is_told(original: Original, tmp_path: Path, caplog: Any) -> None:
    logging.disable(logging.NOTSET)
    path = write(tmp_path / "files", original.closed)
    data = bytearray(original.closed["points.db"])
    data[data.index("ключ".encode())] ^= 1
    path.write_bytes(bytes(data))
    loaded(path, salvage=True)
    assert "lost: " in caplog.text and "points were salvaged" in caplog.text
