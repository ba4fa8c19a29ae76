"""The server: puts the parts together, sets the limits, and ends in good order.

Owns the store, the listener and the open connections. Does not know what is said on them.
"""

import contextlib
import ipaddress
import logging
import math
import signal
import socket
import threading
import time
from typing import Any, Callable, Iterator, List, Optional, Set, Tuple, cast

from metricsd.commit import Commit
from metricsd.connection import Connection
from metricsd.idle import IdleSweep
from metricsd.journal import ALWAYS, FSYNC_POLICIES
from metricsd.ledger import AnyStore
from metricsd.lines import MAX_LINE_BYTES
from metricsd.listener import Address, Listener, format_address
from metricsd.observer import Observer, Tell
from metricsd.reactor import Reactor
from metricsd.recovery import DAMAGE_POLICIES, STOP
from metricsd.retention import Retention
from metricsd.session import Session
from metricsd.store import Store

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None  # type: ignore[assignment]

logger = logging.getLogger("metricsd")

MAX_CONNECTIONS = 20000  # the default limit; with 10,000, each took 1,162 bytes of memory

# After stop(), clients that are still owed something have so many seconds to take it.
STOP_SECONDS = 5.0

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server:
    """A metrics server for embedding and for tests: a context manager that listens from the start.

    ``max_connections`` clients are served at a time, more wait. A request line is at most
    ``max_line_bytes`` long. A connection with nothing pending is closed after ``idle_timeout``
    seconds (None: never). At most ``max_points`` points are stored (None: any number); they are
    dropped when they are ``retention`` seconds old (None: never). ``tell`` is called with each step
    of the loop (None: nobody observes it).

    ``journal`` is a folder in which puts are kept (None: they are gone when the server ends). What
    is there is loaded first. They are synced as ``fsync`` says: ``always`` before the reply to them
    leaves, ``everysec`` within a second of that, ``never``: when the system does. A journal that is
    damaged stops the start, unless ``journal_damage`` is ``skip``.

    Raises ListenError, an OSError, if it can't listen on ``host`` and ``port``; port 0 takes any
    that is free, see ``address``. Raises JournalError for a journal that it can't use, ValueError
    for a bad limit or policy.
    """

    def __init__(
        self,
        host: Optional[str],
        port: int,
        max_connections: int = MAX_CONNECTIONS,
        max_line_bytes: int = MAX_LINE_BYTES,
        idle_timeout: Optional[float] = None,
        max_points: Optional[int] = None,
        retention: Optional[float] = None,
        journal: Optional[str] = None,
        fsync: str = ALWAYS,
        journal_damage: str = STOP,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        tell: Optional[Tell] = None,
    ) -> None:
        limits = (max_connections, max_line_bytes, idle_timeout, max_points, retention)
        if not all(limit is None or 0 < limit < math.inf for limit in limits):
            raise ValueError("a limit must be positive")
        if fsync not in FSYNC_POLICIES or journal_damage not in DAMAGE_POLICIES:
            raise ValueError("fsync and journal_damage must be one of their policies")
        self._max_connections = max_connections
        self._max_line_bytes = max_line_bytes
        self._store = Store()
        self._commit: Optional[Commit] = None
        self._connections: Set[Connection] = set()
        self._clock = clock
        self._connect: Callable[..., Connection] = Connection
        if tell is None:
            self._reactor = Reactor(clock)
        else:
            observer = Observer(tell)
            self._reactor = observer.reactor(clock)
            self._store = observer.store(self._store)
            self._connect = observer.connect
        self._puts_go_to: AnyStore = self._store
        self._serving = threading.RLock()  # held by serve_forever
        try:
            if journal is not None:
                self._commit = Commit(self._store, self._reactor, journal, fsync, journal_damage)
                self._puts_go_to = self._commit.ledger
                self._reactor.commit = self._commit.run
            if retention is not None:
                Retention(self._store, self._reactor, retention, wall_clock).sweep()
            self._store.limit(max_points)
            self._listener = Listener(host, port, self._reactor, self._has_room, self._open)
        except BaseException:
            self._close_journal()
            self._reactor.close()
            raise
        if idle_timeout is not None:
            IdleSweep(self._connections, self._reactor, idle_timeout)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def addresses(self) -> List[Tuple[str, int]]:
        """Each host and port it listens on, as numbers; the host name may stand for several."""
        return [cast(Tuple[str, int], address[:2]) for address in self._listener.addresses]

    @property
    def address(self) -> Tuple[str, int]:
        """The first of ``addresses``."""
        return self.addresses[0]

    def serve_forever(self) -> None:
        """Serve until ``stop`` is called, then answer what has arrived, within STOP_SECONDS."""
        with self._serving:
            self._reactor.run()
            self._finish()

    def turn(self, timeout: Optional[float] = None) -> None:
        """Take one turn of the loop instead, for who wants to go step by step; see Reactor."""
        self._reactor.turn(timeout)

    def stop(self) -> None:
        """Let ``serve_forever`` end. Does not wait. Safe from any thread and signal handler."""
        self._reactor.stop()

    def close(self) -> None:
        """Stop, wait for ``serve_forever`` to end, and close every socket."""
        self.stop()
        with self._serving:
            self._listener.close()
            for connection in list(self._connections):
                connection.close()
            self._close_journal()
            self._reactor.close()

    @property
    def wake_descriptor(self) -> int:
        """The descriptor for signal.set_wakeup_fd; see Reactor."""
        return self._reactor.wake_descriptor

    def _has_room(self) -> bool:
        return len(self._connections) < self._max_connections

    def _open(self, sock: socket.socket, address: Address) -> None:
        """Join the parts of a client: its socket, its session, and the store that all share."""
        session = Session(self._puts_go_to, self._max_line_bytes)
        self._connections.add(self._connect(sock, address, session, self._reactor, self._on_close))

    def _on_close(self, connection: Connection) -> None:
        """A client has gone, so another one may come."""
        self._connections.discard(connection)
        self._listener.resume()

    def _close_journal(self) -> None:
        if self._commit is not None:
            self._commit.close()
            self._commit = None

    def _finish(self) -> None:
        self._listener.accept_waiting()
        self._listener.close()
        for connection in list(self._connections):
            connection.end_input()
        deadline = self._clock() + STOP_SECONDS
        while self._connections:
            left = deadline - self._clock()
            if left <= 0:
                logger.warning("%d clients cut off while stopping", len(self._connections))
                return
            self._reactor.turn(left)


def run_server(host: Optional[str], port: int, **limits: Any) -> None:
    """Serve on an address until SIGINT or SIGTERM; ``limits`` are those of Server.

    In a thread other than the main one, where Python allows no signal handlers, it serves until the
    process ends. Raises ListenError, an OSError, if it can't listen, and what else Server raises.
    """
    _raise_descriptor_limit()
    server = Server(host, port, **limits)
    with _stopped_by_signals(server):
        with server:
            _announce(server.addresses)
            server.serve_forever()
        logger.info("stopped")


def _announce(addresses: List[Tuple[str, int]]) -> None:
    logger.info("listening on %s", " and ".join(format_address(*address) for address in addresses))
    for host, _ in addresses:
        if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            logger.warning(
                "%s can be reached from other machines, and the protocol has no access control: "
                "anyone who reaches it can read and write every metric",
                host,
            )


@contextlib.contextmanager
def _stopped_by_signals(server: Server) -> Iterator[None]:
    """SIGINT and SIGTERM stop the server; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_signal: int, _frame: object) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        server.stop()

    before = [signal.signal(number, handle) for number in STOP_SIGNALS]
    # The self-pipe trick: a signal writes a byte to a socket that the loop waits for.
    wake_before = signal.set_wakeup_fd(server.wake_descriptor)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wake_before)
        for number, handler in zip(STOP_SIGNALS, before):
            signal.signal(number, handler or signal.SIG_DFL)


def _raise_descriptor_limit() -> None:
    """Let this process open as many descriptors as the system allows it; each client takes one."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # macOS: "unlimited" can't be had; at the limit, clients wait
