"""systemd: what a supervisor is told, and the sockets that it hands on.

Owns two small protocols, of sd_notify(3) and of sd_listen_fds(3). Does not know what is served.
"""

import contextlib
import errno
import logging
import os
import socket
import threading
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

logger = logging.getLogger("metricsd")

FIRST_DESCRIPTOR = 3  # of those handed on, says sd_listen_fds(3)

# What sockets are handed on for, by the names that they may have, and of which types they may be.
STREAM, DATAGRAM = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM)
NAMES = {"put": {STREAM}, "graphite": {STREAM, DATAGRAM}, "http": {STREAM}, "unix": {STREAM}}
UNNAMED = "put"  # what one is for that has no name, but that of its unit

# Seconds between two requests for more time while a store loads, and those that each asks for. A
# disk that does not answer for a day is not going to.
EXTEND_EVERY = 5.0
EXTEND_SECONDS = 20
MOST_EXTENSIONS = 24 * 3600 // int(EXTEND_EVERY)

WATCHDOG_SHARE = 0.5  # of the time after which systemd takes a silent server for dead


class InheritError(Exception):
    """A socket can't be used for what it was handed on; the message is one line."""


class Supervisor:
    """Who has started this process: what it hands on, and what it wants to hear."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        """Take over the sockets that are for this process. Raises InheritError."""
        address = environment.get("NOTIFY_SOCKET", "")
        # One that begins with @ is in the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._heard = True
        self.watchdog_seconds = _watchdog_seconds(environment, pid)
        self.inherited = inherited(environment, pid)
        # Open from now on: without a sign from a server that has no descriptor left, it is killed.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def tell(self, *facts: str) -> None:
        """Say some things, such as READY=1. Nobody may be there to hear them."""
        if not self._address:
            return
        try:
            self._socket.sendto("\n".join(facts).encode(), self._address)
            self._heard = True
        except OSError as error:
            if self._heard:  # if not, that has been told
                logger.warning("systemd does not hear %s: %s", facts[0], error)
            self._heard = False

    def close(self) -> None:
        """Say nothing any more."""
        self._address = ""
        self._socket.close()

    @contextlib.contextmanager
    def loading(self, what: str) -> Iterator[None]:
        """Ask for more time, again and again, until the block is left.

        By a thread, as the loop does not turn yet.
        """
        loaded = threading.Event()

        def ask() -> None:
            for _ in range(MOST_EXTENSIONS):
                self.tell(
                    f"EXTEND_TIMEOUT_USEC={EXTEND_SECONDS * 1000000}", f"STATUS=loading {what}"
                )
                if loaded.wait(EXTEND_EVERY):
                    return

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            loaded.set()
            thread.join()

    def ready(self) -> None:
        """Say that clients can come."""
        self.tell("READY=1", "STATUS=serving")

    def stopping(self) -> None:
        """Say that the end has begun, for the last time that something is said."""
        self.tell("STOPPING=1", "STATUS=stopping: what has arrived is answered")
        self.close()

    def watchdog(self) -> Iterator[float]:
        """The steps of a task that tells that the loop turns, for ever; none if nobody asks."""
        while self.watchdog_seconds:
            self.tell("WATCHDOG=1")
            yield self.watchdog_seconds * WATCHDOG_SHARE


def inherited(environment: Mapping[str, str], pid: int) -> Dict[str, List[socket.socket]]:
    """The sockets that were handed on to this process, by what they are for.

    Those for datagrams are apart, as ``graphite-udp``.
    Raises InheritError if one has an unknown name, or is of the wrong type.
    """
    if environment.get("LISTEN_PID") != str(pid):
        return {}
    text = environment.get("LISTEN_FDS", "")
    count = int(text) if text.isdigit() else 0
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (count - len(names))
    found: Dict[str, List[socket.socket]] = {}
    for descriptor, given in zip(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count), names):
        unnamed = given in ("", "unknown") or given.endswith(".socket")
        name = UNNAMED if unnamed else given
        if name not in NAMES:
            raise InheritError(f"a socket is handed on as {name}: call it {', '.join(NAMES)}")
        kind, sock = _checked(name, descriptor)
        found.setdefault(name if kind == STREAM else name + "-udp", []).append(sock)
    return found


def _checked(name: str, descriptor: int) -> Tuple[int, socket.socket]:
    """A socket that can be used for what it is called, and its type. Raises InheritError."""
    try:
        sock = adopted(descriptor)
    except OSError as error:
        raise InheritError(f"what is handed on as {name} is no socket: {error}") from error
    kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    if kind not in NAMES[name] or (kind == STREAM and not _listens(sock)):
        sock.close()
        raise InheritError(f"what is handed on as {name} is no socket that listens for it")
    return kind, sock


def adopted(descriptor: int) -> socket.socket:
    """A socket by its descriptor, whatever its family, also with Python 3.6. Raises OSError."""
    os.set_inheritable(descriptor, False)
    unknown = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        domain = getattr(socket, "SO_DOMAIN", 39)  # 3.6 has no name for it; this is Linux's
        family = unknown.getsockopt(socket.SOL_SOCKET, domain)
        kind = unknown.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    finally:
        unknown.detach()
    sock = socket.socket(family, kind, 0, fileno=descriptor)
    sock.setblocking(False)
    return sock


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        return error.errno == errno.ENOPROTOOPT  # the system does not tell


def _watchdog_seconds(environment: Mapping[str, str], pid: int) -> Optional[float]:
    """After how many seconds without a sign the server is taken for dead; None if never."""
    text = environment.get("WATCHDOG_USEC", "")
    mine = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
    return int(text) / 1e6 if mine and text.isdigit() and int(text) else None
