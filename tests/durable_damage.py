"""Files that somebody has damaged, and what becomes of them."""

import random
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from metricsd.durable import FileError
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


def flipped(data: bytes, place: int) -> bytes:
    """The same with one bit, counted from the first, turned over."""
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def cut(data: bytes, dice: random.Random) -> bytes:
    """The same without its end."""
    return data[: dice.randrange(len(data))]


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
