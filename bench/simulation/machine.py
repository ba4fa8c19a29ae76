"""The machine: the thread beside the loop, and a disk that fails and loses its power.

Owns what is on the disk whatever happens to the process. The files are real ones of SQLite, in
memory. Does not know when something fails.
"""

import contextlib
import functools
import os
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable, Dict

from metricsd.durable.checkpoint import SAVE_SERIES
from metricsd.durable.tables import size_of
from metricsd.loop import Reactor, Worker
from simulation.dice import Dice

if TYPE_CHECKING:
    from simulation.world import World

INDEX_HEADER = 136  # bytes of the index of a WAL that say how far it goes: walformat.html
WAL_HEADER = 32  # bytes, different ones each time that the file is begun anew
SECTOR = 512  # bytes that a disk writes as a whole


class Thread(Worker):
    """The thread beside the loop; it does its jobs when the world says so."""

    def __init__(self, world: "World", reactor: Reactor) -> None:
        self._world = world
        super().__init__(reactor)

    def _start(self) -> None:
        self._calls = SimpleNamespace(put=self._world.jobs.append)

    def close(self, seconds: float) -> bool:
        """Do all that is left."""
        while self._world.jobs:
            self._world.work()
        return True


class Disk:
    """The files of one store, and how much of them would be there after a power cut."""

    def __init__(self, world: "World", folder: Path) -> None:
        self._world = world
        self._folder = folder
        self._starts = 0
        self._database = b""  # as it was when the WAL was begun
        self._header, self._synced = b"", 0  # of that WAL, and the bytes of it that are safe
        self.failures = 0  # since the last start, as the next ones
        self.commits = self.synced_commits = 0  # of puts, and those that are safe
        self.safe_step = 0  # of the world, when all was safe
        self.careful = False  # a commit is synced
        self.most_saved = 0  # series, in one transaction
        self.log: Dict[int, int] = {}  # rows of the log since the last start, and their bytes

    @property
    def path(self) -> str:
        """Of the database, since the last start."""
        return str(self._folder / f"{self._starts}.db")

    def fsync(self, _: int) -> None:
        """Stand for os.fsync."""
        self.write(lambda: None, True)

    def write(self, do: Callable[[], Any], synced: bool) -> Any:
        """Do what writes to the files and may sync them, or meet with the fault that is due."""
        try:
            self._world.call("disk")
        except OSError:
            self.failures += 1
            if not synced:
                self._write_some(do)
            raise
        done = do()
        self._world.call("")
        self._note(synced or self.careful)
        return done

    def _write_some(self, do: Callable[[], Any]) -> None:
        """Leave some of a commit in the WAL, maybe all, and yet nobody sees that.

        SQLite brings a WAL into the database behind a commit that has succeeded; so not behind it.
        """
        wal, database = self.path + "-wal", _read(self.path)
        size = os.path.getsize(wal)
        with open(self.path + "-shm", "r+b") as index:
            header = index.read(INDEX_HEADER)
            do()
            index.seek(0)
            index.write(header)
        Path(self.path).write_bytes(database)
        most = size + self._world.luck.pick([0, 21, 21, 2000, 10**6])
        os.truncate(wal, min(most, os.path.getsize(wal)))

    def _note(self, synced: bool) -> None:
        """Something has been written. A WAL begins anew when all is in the database, and safe."""
        with contextlib.suppress(FileNotFoundError), open(self.path + "-wal", "rb") as file:
            header = file.read(WAL_HEADER)
            if header != self._header or not header:
                self._database, self._header, self._synced = _read(self.path), header, len(header)
            if synced:
                self._synced = os.fstat(file.fileno()).st_size
        if synced:
            self.synced_commits = self.commits
            self.safe_step = self._world.step - 1  # the rest of this step may come after the sync

    def restart(self, power_cut: bool, dice: Dice) -> None:
        """Leave the files of a process that is gone as they are, and go on with copies.

        After a power cut there is what was synced, and some of what came after it in the same WAL;
        a sector of that may be missing.
        """
        before = self.path
        self._starts += 1
        self.failures = self.commits = self.synced_commits = 0
        self.log.clear()
        database, wal = _read(before), _read(before + "-wal")
        if not power_cut and os.path.exists(before + "-shm"):
            shutil.copyfile(before + "-shm", self.path + "-shm")
        elif power_cut and wal[:WAL_HEADER] != self._header:
            wal = b""  # it has just been begun, and the database has all that was in the one before
        elif power_cut:
            database, safe = self._database, min(self._synced, len(wal))
            kept = safe + dice.below(len(wal) - safe + 1)
            hole = safe + dice.below(kept - safe + 1)
            torn = wal[:hole] + bytes(SECTOR) + wal[hole + SECTOR :]
            wal = (torn if dice.one_in(3) else wal)[:kept]
        Path(self.path).write_bytes(database)
        Path(self.path + "-wal").write_bytes(wal)


def _read(path: str) -> bytes:
    return Path(path).read_bytes() if os.path.exists(path) else b""


class Connection(sqlite3.Connection):
    """SQLite's, with that disk under it."""

    def __init__(self, disk: Disk, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._disk = disk
        self._saved = 0  # series, in this transaction

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Execute a statement; if it writes to the files, as the disk lets it."""
        do = functools.partial(super().execute, sql, *parameters)
        if sql.startswith("PRAGMA synchronous"):
            self._disk.careful = sql.endswith("FULL")
        self._saved = 0 if sql.startswith("BEGIN") else self._saved + (sql == SAVE_SERIES)
        self._disk.most_saved = max(self._disk.most_saved, self._saved)
        for [upto] in parameters if sql.startswith("DELETE FROM log") else ():
            self._disk.log = {n: size for n, size in self._disk.log.items() if n > upto}
        checkpoint = "wal_checkpoint" in sql
        alone = sql.startswith("INSERT") and not self.in_transaction
        if not (checkpoint or alone or sql == "COMMIT"):
            return do()
        done = self._disk.write(do, checkpoint)
        if alone:
            self._disk.commits += 1
            self._disk.log[parameters[0][0]] = size_of(parameters[0])
        return done
