"""The server: puts the parts together, sets the limits, and ends in good order.

Owns the store, the listener and the open connections. Does not know what is said on them.
"""

import contextlib
import logging
import socket
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from metricsd import loop, upkeep
from metricsd.attachments import Attachments
from metricsd.options import checked
from metricsd.protocol import Dispatcher, Session
from metricsd.store import Store

logger = logging.getLogger("metricsd")

STOP_SECONDS = 5.0  # that clients who are still owed something have after stop() to take it


class Parts(NamedTuple):
    """What a server is made of, for who wants to hand in other parts of the same kind."""

    reactor: Callable[..., loop.Reactor] = loop.Reactor
    listener: Callable[..., loop.Listener] = loop.Listener
    connection: Callable[..., loop.Connection] = loop.Connection
    session: Callable[..., Session] = Session
    around_store: Optional[Callable[[Store], Store]] = None
    attachments: Callable[..., Attachments] = Attachments


PLAIN = Parts()


class Server:
    """A metrics server for embedding and for tests: a context manager that listens from the start.

    It takes the options of the command line that concern a server, as in
    ``Server("127.0.0.1", 0, max_points=10**6, retention="7d", store="sqlite:points.db")``; the
    table of them is in options.py. ``host`` may be None for every address of the machine; port 0
    takes any that is free, see ``address``; port None opens none.

    Raises OptionError, a ValueError, for a value that an option does not take, TypeError for a name
    that is none; OpenError if the store can't be opened; ListenError, an OSError, if it can't
    listen there.
    """

    def __init__(
        self,
        host: Optional[str],
        port: Optional[int],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        parts: Parts = PLAIN,
        **options: Any,
    ) -> None:
        self._options = checked(dict(options, host=host, port=port))
        self._clock = clock
        self._parts = parts
        self._connections: Dict[loop.Connection, None] = {}  # a set, in the order of their arrival
        self._serving = threading.RLock()  # held by serve_forever
        with contextlib.ExitStack() as undo:
            self._reactor = parts.reactor(clock)
            undo.callback(self._reactor.close)
            reactor, connections = self._reactor, self._connections
            self.attachments = parts.attachments(self._options, reactor, connections, wall_clock)
            self._store = self.attachments.open_store()
            undo.callback(self._store.close)
            upkeep.begin(self._store, connections, reactor, self._options, wall_clock)
            store = self._store if parts.around_store is None else parts.around_store(self._store)
            self._dispatcher = Dispatcher(store)
            reactor.once_a_turn.insert(0, self._dispatcher.batch.run)
            self._listeners: Dict[str, Any] = {}  # by the names of their endpoints
            self.attachments.counters.add(store=self._store, listeners=self._listeners)
            for endpoint in self.attachments.endpoints(self._dispatcher, self._session):
                for sock in endpoint.sockets:
                    undo.callback(loop.close_socket, sock)
                listen = loop.Datagrams if endpoint.in_datagrams else parts.listener
                listener = listen(endpoint, reactor, self._has_room, self._accept)
                self._listeners[endpoint.name] = listener
            undo.pop_all()  # all is well

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def addresses(self) -> List[Tuple[str, int]]:
        """Each host and port of put and get, as numbers; the host name may stand for several."""
        listener = self._listeners.get("put")
        return [address[:2] for address in listener.addresses] if listener else []

    @property
    def address(self) -> Tuple[str, int]:
        """The first of ``addresses``."""
        return self.addresses[0]

    def serve_forever(self) -> None:
        """Serve until ``stop`` is called, then answer what has arrived, within STOP_SECONDS."""
        with self._serving:
            self._reactor.run()
            self.attachments.stopping()
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
            for listener in self._listeners.values():
                listener.close()
            for connection in list(self._connections):
                connection.close()
            self._store.close()
            self._reactor.close()

    @property
    def wake_descriptor(self) -> int:
        """The descriptor for signal.set_wakeup_fd; see Reactor."""
        return self._reactor.wake_descriptor

    def _has_room(self) -> bool:
        return bool(len(self._connections) < self._options.max_connections)

    def _session(self) -> Session:
        return self._parts.session(self._dispatcher, self._options.max_line_bytes)

    def _accept(self, sock: socket.socket, address: loop.Address, endpoint: loop.Endpoint) -> None:
        """Join the parts of a client: its socket, and a session of the kind that is spoken here."""
        session = endpoint.make_session()
        make = self._parts.connection
        self._connections[make(sock, address, session, self._reactor, self._on_close)] = None

    def _on_close(self, connection: loop.Connection) -> None:
        """A client has gone, so another one may come, at each endpoint in turn."""
        self._connections.pop(connection, None)
        first = next(iter(self._listeners))
        self._listeners[first] = self._listeners.pop(first)
        for listener in self._listeners.values():
            listener.resume()

    def _finish(self) -> None:
        for listener in self._listeners.values():
            listener.accept_waiting()
            listener.close()
        for connection in list(self._connections):
            connection.end_input()
        self._reactor.turn(0)  # enough for whoever is owed nothing
        if self._connections:
            logger.info(
                "stopping: %d clients have %g s to take their replies; Ctrl-C ends it at once",
                len(self._connections),
                STOP_SECONDS,
            )
        deadline = self._clock() + STOP_SECONDS
        while self._connections:
            left = deadline - self._clock()
            if left <= 0:
                logger.warning("%d clients cut off while stopping", len(self._connections))
                return
            self._reactor.turn(left)


def run_server(host: Optional[str], port: Optional[int], **options: Any) -> None:
    """Serve on an address until SIGINT or SIGTERM; ``options`` are those of Server.

    In a thread other than the main one, where Python allows no signal handlers, it serves until the
    process ends. Raises what Server raises.
    """
    loop.raise_descriptor_limit()
    loop.bound_garbage_collection()
    loop.share_the_lock()
    with loop.log_shown():
        server = Server(host, port, **options)
        on_signals = server.attachments.on_signals()
        with loop.stopped_by_signals(server.stop, server.wake_descriptor, on_signals):
            with server:
                server.attachments.announce(server._listeners.values())
                server.serve_forever()
            logger.info("stopped")
