"""A disk in memory that fails on purpose, and loses what was not synced when its power fails."""

import copy
import errno
import os
import random
from typing import Callable, Dict, List, Optional, Tuple

from metricsd.disk import Disk

# What each call can fail with: open(2), write(2), fsync(2), rename(2), unlink(2).
ERRORS: Dict[str, List[str]] = {
    "create": ["ENOSPC", "EIO", "EMFILE", "EACCES", "EROFS"],
    "write": ["ENOSPC", "EIO", "EDQUOT", "EFBIG"],
    "sync": ["EIO", "ENOSPC", "EDQUOT"],
    "rename": ["EIO", "ENOSPC", "EROFS"],
    "sync_folder": ["EIO", "ENOSPC"],
    "truncate": ["EIO"],
    "close": ["EIO", "ENOSPC"],
    "remove": ["EIO", "EROFS"],
}


class File:
    """What was written, and which part of it is safe."""

    def __init__(self) -> None:
        self.safe = bytearray()
        self.unsafe: List[bytes] = []  # one for each write since the last sync

        self.lost: List[Tuple[int, int]] = []  # place and length of what no sync brings back
        self.cut: Optional[File] = None  # what it was before it was truncated, until it is synced

    @property
    def data(self) -> bytes:
        """What is to be seen while the power is on."""
        return bytes(self.safe) + b"".join(self.unsafe)

    def truncate(self, length: int) -> None:
        before = copy.deepcopy(self)
        self.safe = bytearray(self.data[:length])
        self.unsafe.clear()
        self.lost = [(place, size) for place, size in self.lost if place < length]
        self.cut = before

    def sync(self) -> None:
        self.safe += b"".join(self.unsafe)
        self.unsafe.clear()
        self.cut = None

    def after_power_failure(self, dice: random.Random) -> bytes:
        if self.cut is not None and dice.random() < 0.5:
            return self.cut.after_power_failure(dice)
        kept = bytearray(self.safe)
        for place, length in self.lost:
            end = min(place + length, len(kept))
            kept[place:end] = bytes(end - place)
        return bytes(kept) + _remains(self.unsafe, dice)


Names = Dict[str, File]


class FakeDisk(Disk):
    """``fails(call, use)`` is the error of each use of a call, counted from 1; None: it works."""

    def __init__(self, fails: Callable[[str, int], Optional[str]] = lambda *_: None) -> None:
        self.folder = "DIR"
        self.fails = fails
        self.uses: Dict[str, int] = {}
        self.failures = 0
        self.files: Names = {}
        self.safe_names: Names = {}
        self.steps: List[Names] = []  # all names after each change since they were synced
        self.open_files: Dict[int, File] = {}
        self._next_file = 1

    def itself(self, folder: str) -> "FakeDisk":
        """Stands in for the class, where a disk is opened."""
        return self

    def lock(self, name: str) -> None:
        pass

    def release(self) -> None:
        pass

    def names(self) -> List[str]:
        return list(self.files)

    def create(self, name: str) -> int:
        self._check("create")
        assert name not in self.files, "a name is used twice"
        self.files[name] = File()
        self._names_changed()
        return self._open(name)

    def sync_name(self, name: str) -> None:
        self._check("sync")
        self.files[name].sync()

    def go_on(self, name: str) -> int:
        return self._open(name)

    def write(self, file: int, data: bytes) -> None:
        try:
            self._check("write")
        except OSError:
            self.open_files[file].unsafe.append(data[: len(data) // 2])
            raise
        self.open_files[file].unsafe.append(data)

    def sync(self, file: int) -> None:
        opened = self.open_files[file]
        try:
            self._check("sync")
        except OSError:
            # As on Linux: the pages count as written, and the next sync knows nothing of them.
            # Others still see them, until the power fails.
            opened.lost += [(len(opened.safe), len(b"".join(opened.unsafe)))]
            opened.safe += b"".join(opened.unsafe)
            opened.unsafe.clear()
            raise
        opened.sync()

    def truncate(self, file: int, length: int) -> None:
        self._check("truncate")
        self.open_files[file].truncate(length)

    def _close(self, file: int) -> None:
        del self.open_files[file]
        self._check("close")

    def read(self, name: str) -> bytes:
        return self.files[name].data

    def rename(self, old: str, new: str) -> None:
        self._check("rename")
        self.files[new] = self.files.pop(old)
        self._names_changed()

    def remove(self, name: str) -> None:
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, name)
        self._check("remove")
        del self.files[name]
        self._names_changed()

    def sync_folder(self) -> None:
        self._check("sync_folder")
        self.safe_names = dict(self.files)
        self.steps.clear()

    def killed(self) -> "FakeDisk":
        """The disk as another process finds it after this one was killed."""
        disk = FakeDisk()
        copied: Tuple[Names, Names, List[Names]] = copy.deepcopy(
            (self.files, self.safe_names, self.steps)
        )
        disk.files, disk.safe_names, disk.steps = copied
        return disk

    def power_failed(self, dice: random.Random) -> "FakeDisk":
        """The disk after its power failed: of what was not synced, any part may be there."""
        names = dice.choice([self.safe_names, *self.steps])
        disk = FakeDisk()
        for name, file in names.items():
            disk.files[name] = File()
            disk.files[name].safe += file.after_power_failure(dice)
        disk.safe_names = dict(disk.files)
        return disk

    def _open(self, name: str) -> int:
        self._next_file += 1
        self.open_files[self._next_file] = self.files[name]
        return self._next_file

    def _names_changed(self) -> None:
        self.steps.append(dict(self.files))

    def _check(self, call: str) -> None:
        self.uses[call] = self.uses.get(call, 0) + 1
        error = self.fails(call, self.uses[call])
        if error is not None:
            self.failures += 1
            code = getattr(errno, error)
            raise OSError(code, os.strerror(code))


def _remains(writes: List[bytes], dice: random.Random) -> bytes:
    """Each write may be there, or zeros, or a part of it; or the file ends before it."""
    parts: List[bytes] = []
    for data in writes:
        kind = dice.randrange(4)
        if kind == 0:
            break
        middle = dice.randrange(len(data) + 1)
        whole, torn = data, data[:middle] + b"\0" * (len(data) - middle)
        parts.append([whole, torn, b"\0" * len(data)][kind - 1])
    return b"".join(parts)


def once(call: str, use: int, error: str) -> Callable[[str, int], Optional[str]]:
    """Let one use of one call fail."""
    return lambda name, number: error if (name, number) == (call, use) else None


def during(calls: Tuple[str, ...], first: int, last: int) -> Callable[[str, int], Optional[str]]:
    """Let all uses of some calls fail for a while, as on a full disk."""
    return lambda name, number: "ENOSPC" if name in calls and first <= number <= last else None
