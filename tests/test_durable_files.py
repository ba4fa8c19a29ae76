"""The files of a durable store: who may open them, what is in them, copies."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List
from unittest import mock

import pytest

from metricsd.durable import FileError, backup, tables
from metricsd.durable.wal import HEADER
from tests.durable_script import Held, killed, loaded

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(name="tmp_path")
def _tmp_path(quick_path: Path) -> Path:
    return quick_path


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "points.db"


def contents(folder: Path) -> Dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refusal(path: Path) -> str:
    """Why a start is refused; twice, as it changes nothing."""
    before = contents(path.parent)
    said = set()
    for _ in range(2):
        with pytest.raises(FileError) as caught:
            Held(path)
        said.add(str(caught.value))
    assert contents(path.parent) == before
    (line,) = said
    assert "\n" not in line
    return line


def test_nobody_else_may_read_it(path: Path) -> None:
    with Held(path) as held:
        held.put_safely(("a", 1.0, 1))
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert len(list(path.parent.iterdir())) == 3 and modes == {0o600}
    assert [file.name for file in path.parent.iterdir()] == ["points.db"]


def test_one_owner(path: Path) -> None:
    link = path.with_name("link.db")
    with Held(path) as held:
        held.put_safely(("a", 1.0, 1))
        link.symlink_to(path)
        hard = path.with_name("hard.db")
        os.link(str(path), str(hard))
        for name in (path, link, hard):
            with pytest.raises(FileError, match="another server uses it"):
                Held(name)
        held.put_safely(("a", 1.0, 2))
    assert loaded(link) == {"a": {1: 1.0, 2: 1.0}}


def test_what_was_left_by_a_process_that_was_killed_is_nobody_s(tmp_path: Path) -> None:
    with Held(tmp_path / "points.db") as held:
        held.put_safely(("a", 1.0, 1))
        copy = killed(held, tmp_path / "copy")
    with Held(copy) as held:
        assert held.points == {"a": {1: 1.0}}
        assert copy.with_name("points.db-wal").stat().st_size == 0


@pytest.mark.parametrize("size", [1, 3, 10, 24, 31])
def test_a_wal_whose_header_was_cut_short(path: Path, size: int) -> None:
    """As by a full disk: nothing has been written behind it, so nothing is missing."""
    with Held(path) as held:
        held.put_safely(("a", 1.0, 1))
    path.with_name("points.db-wal").write_bytes(b"\x37\x7f\x06\x82".ljust(size, b"\1")[:size])
    assert loaded(path) == {"a": {1: 1.0}}


def test_a_wal_that_is_a_header_and_no_more(tmp_path: Path) -> None:
    """SQLite syncs it before it writes what follows, and then the power fails."""
    with Held(tmp_path / "points.db") as held:
        held.put_safely(("a", 1.0, 1))
    with Held(tmp_path / "points.db") as held:
        held.put_safely(("a", 1.0, 2))
        copy = killed(held, tmp_path / "copy")
    copy.with_name("points.db-shm").unlink()
    os.truncate(str(copy) + "-wal", HEADER.size)
    assert loaded(copy) == {"a": {1: 1.0}}


def test_a_wal_without_its_file(path: Path) -> None:
    path.with_name("points.db-wal").write_bytes(b"x" * 5000)
    assert "the WAL" in refusal(path)


@pytest.mark.parametrize("text", [b"", b"x", b"hello\n" * 1000, b"SQLite format 3\0" + b"x" * 4080])
def test_a_file_that_is_none_of_ours(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    refusal(path)
    with pytest.raises(FileError, match=r"nothing in it can be read|it is empty|no table"):
        Held(path, salvage=True)
    assert contents(path.parent) == {"points.db": text}


def test_a_pipe_and_a_device(path: Path) -> None:
    os.mkfifo(str(path))
    for name in (str(path), os.devnull):
        with pytest.raises(FileError, match="it is a device or a pipe"):
            Held(Path(name), salvage=True)
    assert [file.name for file in path.parent.iterdir()] == ["points.db"]


def test_another_database_of_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(str(path))) as connection:
        connection.execute("CREATE TABLE log (id)")
    assert "no table of metricsd's" in refusal(path)
    with pytest.raises(FileError, match="no table of metricsd's"):
        Held(path, salvage=True)
    with pytest.raises(FileError, match="no such table"):
        backup(str(path), str(path.with_name("copy.db")))
    assert [file.name for file in path.parent.iterdir()] == ["points.db"]


def test_a_newer_format(path: Path) -> None:
    with mock.patch.object(tables, "FORMAT", 5), pytest.raises(FileError):
        Held(path)
    assert refusal(path) == (
        f"cannot use {path}: it has format 5; use a version that knows that, not 4"
    )
    with pytest.raises(FileError, match="format 5"):
        Held(path, salvage=True)


def test_a_file_of_a_machine_with_other_numbers(path: Path) -> None:
    other = {"little": "big", "big": "little"}[sys.byteorder]
    with mock.patch("sys.byteorder", other), Held(path):
        pass
    assert f"{other}-endian" in refusal(path)


@pytest.mark.parametrize("name", ["folder", "missing/points.db", "nul\0", "file/points.db"])
def test_a_path_that_can_not_be_used(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError) as caught:
        Held(tmp_path / name)
    assert "\n" not in str(caught.value) and "cannot use" in str(caught.value)


def test_odd_names(tmp_path: Path) -> None:
    for name in ("a b?c#d%41.db", "ключ.db", "x;y&mode=ro.db", os.fsdecode(b"\xff.db")):
        with Held(tmp_path / name) as held:
            held.put_safely(("a", 1.0, 1))
        assert loaded(tmp_path / name) == {"a": {1: 1.0}}
    assert len(list(tmp_path.iterdir())) == 4


def test_it_explains_itself(path: Path) -> None:
    with Held(path) as held:
        held.put_safely(*[("cpu", float(number), number) for number in range(1000)])
    with closing(sqlite3.connect(str(path))) as connection:

        def ask(sql: str) -> List[Any]:
            return connection.execute(sql).fetchall()

        assert ask("SELECT format, fsync, series FROM about") == [(4, "always", 1)]
        assert ask("SELECT id, key, blocks, points FROM series") == [(1, "cpu", 4, 1000)]
        assert ask("SELECT count(*) FROM log") == [(0,)]
        assert ask("PRAGMA integrity_check") == [("ok",)]
        comments = [row[0] for row in ask("SELECT sql FROM sqlite_master")]
        assert all("  -- " in sql for sql in comments) and len(comments) == 4


def test_a_copy_while_it_is_used(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    with Held(path) as held:
        held.put_safely(*[("cpu", float(number), number) for number in range(1000)])
        command = [sys.executable, "-m", "metricsd.durable", "backup", str(path), str(target)]
        subprocess.run(command, check=True, cwd=str(ROOT))
        held.put_safely(("cpu", 1.0, 1000))
        again = subprocess.run(command, cwd=str(ROOT), stderr=subprocess.PIPE)
        assert again.returncode == 1 and again.stderr.count(b"\n") == 1
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(loaded(target)["cpu"]) == 1000


def test_a_copy_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        backup(str(tmp_path / "none.db"), str(tmp_path / "copy.db"))
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_links(path: Path) -> None:
    copy = path.with_name("copy.db")
    with mock.patch("os.link", side_effect=PermissionError("not permitted")):
        with Held(path) as held:
            held.put_safely(("new", 1.0, 1), ("old", 1.0, 1))
            backup(str(path), str(copy))
            with pytest.raises(FileError, match="cannot copy"):
                backup(str(path), str(copy))
        data = path.read_bytes().replace(b"old", b"Old")
        path.write_bytes(data)
        assert loaded(path, salvage=True) == {"new": {1: 1.0}}
    assert path.with_name("points.db.damaged1").read_bytes() == data
    assert loaded(copy) == {"new": {1: 1.0}, "old": {1: 1.0}}


def cut_short(path: Path) -> Path:
    """What is there when a salvage is killed that has put a file in the place of the old one.

    Its WAL is there still.
    """
    with Held(path) as held:
        held.put_safely(("old", 1.0, 1))
        copy = killed(held, path.parent / "copy")
    new = path.with_name("new.db")
    with Held(new) as held:
        held.put_safely(("new", 1.0, 1))
    with closing(sqlite3.connect(str(new))) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    new.replace(copy)
    return copy


def test_a_salvage_that_is_cut_short_is_made_good(path: Path) -> None:
    copy = cut_short(path)
    assert loaded(copy) == {"new": {1: 1.0}}
    assert [file.name for file in copy.parent.iterdir()] == ["points.db"]


def test_what_is_salvaged_may_be_damaged_too(path: Path) -> None:
    copy = cut_short(path)
    data = copy.read_bytes()
    copy.write_bytes(data.replace(b"new", b"New"))
    assert "row 1 of series" in refusal(copy)
    copy.write_bytes(data)
    assert loaded(copy) == {"new": {1: 1.0}}
