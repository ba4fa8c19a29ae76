"""The files of one folder, and the few things that the journal does with them.

Owns every call to the system about files. Does not know what is in them. Each call may raise
OSError; tests put another disk in its place, which fails on purpose or loses what was not synced.
"""

import mmap
import os
from typing import List, Optional

from metricsd.records import Data

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

# What may be asked of measurements is nobody else's business.
FILE_MODE = 0o600
FOLDER_MODE = 0o700

APPEND = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)


class Disk:
    """A folder, made if it is missing. A file that is open for writing is known by its number."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)  # whatever becomes the working directory later
        self._lock: Optional[int] = None
        # Open all the time: clients may take every other descriptor that there is.
        self._folder_file: Optional[int] = None
        self._make_folder()
        if os.name == "posix":  # elsewhere a folder can't be opened
            self._folder_file = os.open(self.folder, os.O_RDONLY)

    def lock(self, name: str) -> None:
        """Be the only owner, until ``release``.

        Raises BlockingIOError if somebody else is.
        """
        self._lock = os.open(self._path(name), os.O_RDWR | os.O_CREAT, FILE_MODE)
        if fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Leave the folder to others."""
        for file in (self._lock, self._folder_file):
            if file is not None:
                os.close(file)
        self._lock = self._folder_file = None

    def names(self) -> List[str]:
        """The names of all files."""
        return os.listdir(self.folder)

    def create(self, name: str) -> int:
        """Open a new file for writing at its end."""
        return os.open(self._path(name), APPEND | os.O_CREAT | os.O_EXCL, FILE_MODE)

    def go_on(self, name: str) -> int:
        """Open a file that is there for writing at its end."""
        return os.open(self._path(name), APPEND)

    def create_whole(self, name: str, data: bytes, synced: bool) -> int:
        """Open a new file that holds some data already; if that fails, there is none."""
        file = self.create(name)
        try:
            self.write(file, data)
            if synced:
                self.sync(file)
        except OSError:
            self.close(file)
            self.remove_if_there(name)
            raise
        return file

    def write(self, file: int, data: bytes) -> None:
        """Write all of it; if this fails, a part may have been written."""
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]

    def sync(self, file: int) -> None:
        """Return when all that was written is safe, also if the power fails."""
        if hasattr(fcntl, "F_FULLFSYNC"):  # on macOS fsync(2) leaves it in the drive's cache
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        else:
            os.fsync(file)

    def truncate(self, file: int, length: int) -> None:
        """Cut a file off."""
        os.ftruncate(file, length)

    def close(self, file: int) -> None:
        """Give up a file. What counts in it is synced, so there is nothing that could go wrong."""
        try:
            self._close(file)
        except OSError:
            pass

    def read(self, name: str) -> Data:
        """The bytes of a file, read from the disk as they are looked at."""
        with open(self._path(name), "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return b""  # which can't be mapped
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def sync_name(self, name: str) -> None:
        """Make a file safe that is not open for writing."""
        file = os.open(self._path(name), APPEND)
        try:
            self.sync(file)
        finally:
            self.close(file)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in one step."""
        os.replace(self._path(old), self._path(new))

    def remove(self, name: str) -> None:
        """Delete a file."""
        os.remove(self._path(name))

    def remove_if_there(self, name: str) -> None:
        """Delete a file that nobody needs, if that can be done."""
        try:
            self.remove(name)
        except OSError:
            pass

    def sync_folder(self) -> None:
        """Make the names safe: of files that were made, renamed or removed."""
        if self._folder_file is not None:
            os.fsync(self._folder_file)

    def _make_folder(self) -> None:
        """Make it, and those above it, so that all of them are there after a power cut."""
        missing: List[str] = []
        above = self.folder
        while not os.path.exists(above):
            missing.append(above)
            above = os.path.dirname(above)
        os.makedirs(self.folder, FOLDER_MODE, exist_ok=True)
        for made in missing if os.name == "posix" else []:
            folder = os.open(os.path.dirname(made), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _close(self, file: int) -> None:
        os.close(file)

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)
