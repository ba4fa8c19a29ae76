"""What is attached to a server beside the core: some lines for each option that asks for it.

Owns which option needs which part, and imports it only then. Does not know how a part does its
work, nor when the server begins and ends.
"""

import functools
import logging
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    Iterator,
    List,
    Optional,
    Union,
)

from metricsd.counters import Counters
from metricsd.loop import (
    Address,
    Connection,
    Endpoint,
    ListenError,
    Reactor,
    Session,
    Task,
    announce,
    open_tcp,
    open_tcp_and_udp,
    open_unix,
    prepare,
)
from metricsd.protocol import Dispatcher
from metricsd.service import tell_next_step, tell_of_store, tell_refusals
from metricsd.store import Memory, Store
from metricsd.upkeep import close_overdue, store_counters

logger = logging.getLogger("metricsd")


class Attachments:
    """The attached parts of one server."""

    def __init__(
        self,
        options: Any,
        reactor: Reactor,
        connections: Collection[Connection],
        wall_clock: Callable[[], float],
        supervisor: Any = None,
    ) -> None:
        """Take the options of the server, checked; ``connections`` are those that are open.

        ``supervisor`` is systemd's, if it has started this process.
        """
        self._supervisor = supervisor
        self._inherited: Dict[str, List[Any]] = supervisor.inherited if supervisor else {}
        self._options = options
        self._reactor = reactor
        self._connections = connections
        self._wall_clock = wall_clock
        self._tls: Any = None  # around what is said over TCP, if there is a certificate
        self._deadlines: Optional[Task] = None  # the task that minds them, if a session has one
        self.on_reload: List[Callable[[], None]] = []  # each reads something anew, at SIGHUP
        self.counters = Counters()
        self.counters.add(options=options, reactor=reactor, connections=connections)

    def open_store(self) -> Store:
        """The store that the options name. Raises OpenError."""
        if self._supervisor is None:
            return self._open_store()
        with self._supervisor.loading(self._options.store):
            return self._open_store()

    def _open_store(self) -> Store:
        options = self._options
        kind, _, path = options.store.partition(":")
        if kind == "memory":
            return Memory(options.max_points)
        if kind != "sqlite":
            return self._open_cluster()
        from metricsd.durable import DurableStore

        policy = options.fsync or "always"
        return DurableStore(path, self._reactor, policy, options.salvage, options.max_points)

    def _open_cluster(self) -> Store:
        """The store that is a cluster, of which this server is a front. Raises OpenError."""
        from metricsd.cluster import ClusterStore

        options = self._options
        return ClusterStore(
            options.store,
            self._reactor,
            options.ack or "primary",
            options.store_password_file,
            options.retention,
            self._wall_clock,
        )

    def announce(self, listeners: Collection[Any]) -> None:
        """Tell in the log where clients get in and points live; from now on what is refused."""
        announce(listeners)
        tell_of_store(self._options, self.counters.value("metricsd_points"))
        tell_next_step(listeners)
        Task(self._reactor, tell_refusals(self.counters))
        if self._supervisor is not None:
            self._supervisor.ready()
            Task(self._reactor, self._supervisor.watchdog())

    def stopping(self) -> None:
        """The loop has ended: what has arrived will be answered, and then it is over."""
        if self._supervisor is not None:
            self._supervisor.stopping()

    def on_signals(self) -> Dict[str, Callable[[], None]]:
        """What is to be done at signals, by their names; to be called in the signal's handler."""
        post = self._reactor.post
        return {
            "SIGHUP": lambda: post(self._reload),
            "SIGUSR1": lambda: post(self.counters.log),
        }

    def _reload(self) -> None:
        """Read anew what can be; what can't stays as it was."""
        logger.info("SIGHUP: %d things are read anew", len(self.on_reload))
        for hook in self.on_reload:
            try:
                hook()
            except OSError as error:
                logger.error("not read anew: %s", error)
            except Exception:
                logger.exception("not read anew, by a fault in the server")

    def endpoints(
        self, dispatcher: Dispatcher, make_session: Callable[[], Session]
    ) -> Iterator[Endpoint]:
        """Open where clients may connect, one endpoint each time that the next is asked for.

        ``make_session`` makes one of put and get. Raises ListenError.
        """
        self.counters.add(counts=dispatcher.counts)
        options = self._options
        if options.tls_cert is not None:
            self._tls = self._open_tls()
        first: Any = None  # address where points can be put
        for endpoint in self._put(make_session):
            yield endpoint
            first = first or endpoint.sockets[0].getsockname()
        if options.graphite is not None or self._inherited.keys() & {"graphite", "graphite-udp"}:
            yield from self._graphite(dispatcher.store)
        if options.http is not None or "http" in self._inherited:
            yield self._http(dispatcher, first)
        if options.self_metrics:
            Task(self._reactor, store_counters(self.counters, dispatcher.store, self._wall_clock))

    def _put(self, make_session: Callable[[], Session]) -> Iterator[Endpoint]:
        """Where points are put and got, over TCP, on this machine, or both."""
        options = self._options
        sockets = self._handed_on("put")
        if not sockets and options.port is not None and "unix" not in self._inherited:
            sockets = open_tcp(options.host, options.port)
        if sockets:
            yield self._over_tcp("put", sockets, make_session)
        sockets = self._handed_on("unix")
        if not sockets and options.unix is not None:
            sockets = open_unix(options.unix, int(options.unix_mode, 8))
        if sockets:
            yield Endpoint("unix", sockets, make_session)

    def _handed_on(self, name: str) -> List[Any]:
        """The sockets that replace what an option would open, ready for use; maybe none."""
        sockets = self._inherited.get(name, [])
        for sock in sockets:
            prepare(sock)
        return sockets

    def _over_tcp(
        self, name: str, sockets: List[Any], make_session: Callable[[], Session]
    ) -> Endpoint:
        """An endpoint with TLS around each session if there is a certificate."""
        tls = self._tls
        if tls is None:
            return Endpoint(name, sockets, make_session)
        return Endpoint(
            name,
            sockets,
            lambda: tls.around(make_session(), self._whose),
            protection="with TLS",
            guarded=self._options.tls_clients is not None,
        )

    def _open_tls(self) -> Any:
        """The certificate of the server. Raises ListenError."""
        try:
            from metricsd.tls import Tls, TlsError
        except ModuleNotFoundError:
            raise ListenError("cannot listen with TLS: this Python has no ssl", None) from None
        options = self._options
        try:
            tls = Tls(options.tls_cert, options.tls_key, options.tls_clients, self._reactor)
        except TlsError as error:
            raise ListenError(f"cannot listen with TLS: {error}", None) from None
        self.on_reload.append(tls.reload)
        self.counters.add(tls=tls)
        self._mind_deadlines()
        return tls

    def _mind_deadlines(self) -> None:
        """Close who is overdue, from now on."""
        if self._deadlines is None:
            self._deadlines = Task(self._reactor, close_overdue(self._connections, self._reactor))

    def _whose(self, session: Session) -> str:
        """The client with a session, for the log; finding it takes a look at all of them."""
        found = [repr(each) for each in self._connections if each.session is session]
        return found[0] if found else "a client"

    def _graphite(self, store: Store) -> Iterator[Endpoint]:
        """Where Graphite's lines come in, in streams and in datagrams."""
        from metricsd.graphite import DatagramFeed, Feed, Intake

        wake = functools.partial(self._reactor.call_later, 0.0, lambda: None)
        intake = Intake(store, self._wall_clock, wake)
        self.counters.add(intake=intake)
        # Before the store's own work of a turn, as with the block of puts.
        self._reactor.once_a_turn.insert(0, intake.run)
        limit = self._options.max_line_bytes
        streams = self._handed_on("graphite")
        datagrams = self._inherited.get("graphite-udp", [])
        if not streams and not datagrams:
            streams, datagrams = open_tcp_and_udp(*self._options.graphite)
        if streams:
            yield Endpoint("graphite", streams, lambda: Feed(intake, limit))
        feed = DatagramFeed(intake, limit)
        if datagrams:
            yield Endpoint("graphite-udp", datagrams, lambda: feed, in_datagrams=True)

    def _http(self, dispatcher: Dispatcher, put_address: Union[Address, str]) -> Endpoint:
        """The window on the store; ``put_address`` is where points can be put."""
        from metricsd.http import Deletion, GraphiteApi, HttpSession, Page, Shares, Site

        store, reactor = dispatcher.store, self._reactor

        def health() -> str:
            if reactor.stopping:
                return "stopping"
            return "store is full" if store.room <= 0 else store.trouble

        page = Page(put_address, self._tls is not None)
        site = Site(page, self._options.http_host, health, lambda: self.counters)
        shares = Shares(lambda callback: reactor.call_later(0.0, callback))
        GraphiteApi(store, self._wall_clock, shares).add_to(site.add)
        deletion = Deletion(store, dispatcher.kept_replies.forget)
        site.add("/series", DELETE=deletion.delete)
        self._mind_deadlines()
        return self._over_tcp(
            "http",
            self._handed_on("http") or open_tcp(*self._options.http),
            lambda: HttpSession(site.answer, site.fields, lambda: reactor.now),
        )
