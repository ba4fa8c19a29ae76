"""The machine: its clock, the thread beside the loop, and a disk that fails and loses its power.

Owns what is on the disk whatever happens to the process. The files are real ones of SQLite, in
memory. Does not know when something fails.
"""

import contextlib
import os
import resource
import shutil
import sqlite3
import struct
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

from metricsd.loop import Worker

START = 1_500_000_000  # what the wall clock says first
TICK = 2.0**-12  # seconds that a turn takes at least; a power of two, so that sums are exact
STOPWATCH_TICK = 2.0**-12  # seconds from one look at the stopwatch to the next

INDEX_HEADER = 136  # bytes of the index of a WAL that say how far it goes: walformat.html
WAL_HEADER = 32  # bytes, different ones each time that the file is begun anew
FRAME = 24 + 4096  # bytes of one with its page
CHECKPOINTED = struct.Struct("=I")  # the 25th number in the index: the frames in the database
SECTOR = 512  # bytes that a disk writes as a whole

Call = Callable[[], None]

FULL, SYNC_FAILS = "full", "sync fails"  # what a disk may do instead of what it is asked


class Crash(BaseException):
    """The process is gone, as after SIGKILL, or the power is; nobody in the server catches it."""


class Clock:
    """Time that passes when the world says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._stopwatch = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def wall(self) -> float:
        """Seconds since 1970."""
        return START + self.now

    def stopwatch(self) -> float:
        """Seconds; some pass with each look, so that work is cut into slices."""
        self._stopwatch += STOPWATCH_TICK
        return self._stopwatch

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Thread(Worker):
    """The thread beside the loop; it does its next job when the world says so."""

    at_work = ended = False

    def _start(self) -> None:
        pass

    @property
    def busy(self) -> bool:
        """Whether it has something to do."""
        return not self._calls.empty()

    def step(self) -> None:
        """Do the next job, if there is one."""
        job = self._calls.get() if self.busy else None
        if job is not None:
            self.at_work = True
            job()
            self.at_work = False

    def close(self, seconds: float) -> bool:
        """Do all that is left."""
        while self.busy:
            self.step()
        self.ended = True
        return True


class Disk:
    """The files of one store, and how much of them would be there after a power cut."""

    def __init__(self, folder: Path, call: Call, on_sync: Call) -> None:
        self._folder = folder
        self.failures = 0
        self._call = call
        self._on_sync = on_sync
        self.always = True  # commits are synced
        self._number = 0  # of starts
        self._synced = b"", 0  # the header of the WAL, and how many of its bytes
        self.fault: Optional[str] = None  # of the next write
        self.room = 0  # bytes that a full disk takes before it fails

    @property
    def path(self) -> str:
        """Of the database, since the last start."""
        return str(self._folder / f"{self._number}.db")

    def connect(self, path: str, parameters: str) -> sqlite3.Connection:
        """Stand for what the store opens its file with."""
        connection: Connection = sqlite3.connect(
            f"file:{path}?{parameters}",
            isolation_level=None,
            check_same_thread=False,
            uri=True,
            factory=Connection,
        )
        connection.disk = self
        return connection

    def fsync(self, _: int) -> None:
        """Stand for os.fsync."""
        self._call()
        if self._take_fault():
            raise OSError(5, "Input/output error")
        self.synced()

    def _take_fault(self) -> Optional[str]:
        fault, self.fault = self.fault, None
        self.failures += bool(fault)
        return fault

    def synced(self) -> None:
        """All that is in the WAL is safe."""
        self._note_wal()
        self._on_sync()

    def _note_wal(self) -> None:
        with contextlib.suppress(FileNotFoundError), open(self.path + "-wal", "rb") as file:
            self._synced = file.read(WAL_HEADER), os.fstat(file.fileno()).st_size

    @contextlib.contextmanager
    def writing(self, checkpoint: bool) -> Iterator[None]:
        """Let what is written in this block meet with the fault that is due."""
        self._call()
        fault = self._take_fault()
        if fault == FULL:
            try:
                with self._limited(os.path.getsize(self.path + "-wal") + self.room):
                    yield
            except sqlite3.Error:
                self._note_wal()  # it may have been synced, and brought into the database in part
                raise
        elif fault and checkpoint:
            raise sqlite3.OperationalError("disk I/O error")
        elif fault:  # all is in the WAL, and yet nobody sees it
            with open(self.path + "-shm", "r+b") as index:
                header = index.read(INDEX_HEADER)
                yield
                index.seek(0)
                index.write(header)
            raise sqlite3.OperationalError("disk I/O error")
        else:
            yield
        self._call()

    @contextlib.contextmanager
    def _limited(self, size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def restart(self, power_cut: bool, luck: int) -> None:
        """Leave the files of a process that is gone as they are, and go on with copies.

        After a power cut the WAL has what was synced, and some of what came after it: how much, and
        whether a sector of that is missing, is a matter of ``luck``.
        """
        before = self.path
        self.fault = None
        self._number += 1
        shutil.copyfile(before, self.path)
        wal = Path(before + "-wal").read_bytes() if os.path.exists(before + "-wal") else b""
        if power_cut:
            header, synced = self._synced
            synced = max(synced if wal.startswith(header) else 0, self._checkpointed(before))
            kept = synced + luck % (len(wal) - synced + 1)
            # SQLite syncs the header of a new WAL before it writes more.
            hole = max(synced + luck // 7 % (kept - synced + 1), WAL_HEADER)
            torn = wal[:hole] + bytes(SECTOR) + wal[hole + SECTOR : kept]
            wal = torn[:kept] if luck % 3 == 0 else wal[:kept]
        elif os.path.exists(before + "-shm"):
            shutil.copyfile(before + "-shm", self.path + "-shm")
        Path(self.path + "-wal").write_bytes(wal)

    def _checkpointed(self, path: str) -> int:
        """Bytes of the WAL that are in the database: they were synced before that."""
        with contextlib.suppress(FileNotFoundError, struct.error), open(
            path + "-shm", "rb"
        ) as index:
            index.seek(CHECKPOINTED.size * 24)
            (frames,) = CHECKPOINTED.unpack(index.read(CHECKPOINTED.size))
            return int(frames and WAL_HEADER + frames * FRAME)
        return 0


class Connection(sqlite3.Connection):
    """SQLite's, with that disk under it."""

    disk: Disk

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        """Execute a statement; if it writes to the files, as the disk lets it."""
        alone = sql.startswith(("INSERT", "REPLACE")) and not self.in_transaction
        checkpoint = "wal_checkpoint" in sql
        if not (alone or checkpoint or sql == "COMMIT"):
            return super().execute(sql, *parameters)
        with self.disk.writing(checkpoint):
            cursor = super().execute(sql, *parameters)
        if checkpoint or self.disk.always:
            self.disk.synced()
        return cursor
