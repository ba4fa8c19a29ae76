"""Unix sockets: clients of the same machine connect to a path, and its mode says which.

Owns the path: what is done about one that is there already, and that it is removed at the end.
"""

import errno
import os
import socket
import stat
from typing import List, Optional, Tuple

from metricsd.loop.endpoints import BACKLOG, ListenError
from metricsd.loop.sockets import close_socket

Identity = Tuple[int, int]  # of a file, whatever its name: device and inode

TRIES = 2  # to bind: the second one is after a stale socket has been removed


class UnixSocket(socket.socket):
    """A listening socket. Closing it removes its path, unless that is another's by then."""

    def __init__(self, path: str, mode: int) -> None:
        """Listen at a path that is free, for whom its mode lets in. Raises OSError."""
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path
        self._identity: Optional[Identity] = None  # while there is something to remove
        try:
            self.setblocking(False)
            self.bind(path)
            self._identity = _identity(path)
            os.chmod(path, mode)  # nobody gets in before listen
            self.listen(BACKLOG)
        except BaseException:
            close_socket(self)
            raise

    def close(self) -> None:
        """Remove the path, and end. Twice is harmless. Raises OSError."""
        mine, self._identity = self._identity, None
        if mine is not None and mine == _identity(self._path):
            try:
                os.unlink(self._path)
            except OSError:
                pass  # the folder may be closed to us by now; the next start replaces it
        super().close()


def open_unix(path: str, mode: int) -> List[socket.socket]:
    """Listen at a path, which only those may use whom ``mode`` lets write there.

    A socket that nobody listens on any more is replaced. Raises ListenError if there is another
    file or a server that is alive, or if the path can't be had.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ListenError(f"cannot listen on {path}: this system has no unix sockets", None)
    path = os.path.abspath(path)
    try:
        return [_opened(path, mode)]
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(f"cannot listen on unix:{path}: {reason}", error.errno) from None


def _opened(path: str, mode: int) -> UnixSocket:
    for left in reversed(range(TRIES)):
        try:
            return UnixSocket(path, mode)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not left:
                raise
            _remove_stale(path)
    raise AssertionError("the last try returns or raises")


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on. Raises OSError if it is anything else."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server that is too busy to accept is alive as well
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return  # its server has just removed it
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "a server listens there; stop that one, or choose another path")


def _identity(path: str) -> Optional[Identity]:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
