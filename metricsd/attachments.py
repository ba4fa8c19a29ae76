"""What is attached to a server beside the core: some lines for each option that asks for it.

Owns which option needs which part, and imports it only then. Does not know how a part does its
work, nor when the server begins and ends.
"""

from typing import Any, Callable, Iterable, Iterator

from metricsd.loop import Connection, Endpoint, Reactor, Session, open_tcp
from metricsd.protocol import Dispatcher
from metricsd.store import Memory, Store


class Attachments:
    """The attached parts of one server."""

    def __init__(
        self, options: Any, reactor: Reactor, connections: Callable[[], Iterable[Connection]]
    ) -> None:
        """Take the options of the server, checked; ``connections`` returns those that are open."""
        self._options = options
        self._reactor = reactor
        self._connections = connections

    def open_store(self) -> Store:
        """The store that the options name. Raises OpenError."""
        options = self._options
        kind, _, path = options.store.partition(":")
        if kind == "memory":
            return Memory(options.max_points)
        from metricsd.durable import DurableStore

        policy = options.fsync or "always"
        return DurableStore(path, self._reactor, policy, options.salvage, options.max_points)

    def endpoints(
        self, dispatcher: Dispatcher, make_session: Callable[[], Session]
    ) -> Iterator[Endpoint]:
        """Open where clients may connect, one endpoint each time that the next is asked for.

        ``make_session`` makes one of put and get. Raises ListenError.
        """
        options = self._options
        yield Endpoint("put", open_tcp(options.host, options.port), make_session)
