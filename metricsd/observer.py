"""Stand-ins for the parts of a server, which do the same and tell each step that they take.

Owns what a step is, and the names of the clients: c1, c2 and so on. Does not know what becomes of a
step: it is handed to a function. A server that nobody observes is made of the plain parts.
"""

import selectors
import socket
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, cast

from metricsd.connection import Connection
from metricsd.listener import Listener, format_address
from metricsd.reactor import WRITE, Callback, Reactor, Watch
from metricsd.session import Session
from metricsd.store import Store, StoreError

REPLY_BOUNDARY = b"\n\n"  # ends each reply, and is nowhere else in one

# So many ready sockets are named; of more the number is told.
NAMED_READY = 4

Ready = List[Tuple[selectors.SelectorKey, int]]


class Step(NamedTuple):
    """One thing that happened."""

    turn: int  # of the loop; 0 before the first
    who: str  # "loop", "listener", "store", or the name of a client
    what: str  # one word
    detail: str  # a few words more
    data: bytes  # the bytes that it happened to; b"" for none


Tell = Callable[[Step], None]


class Observer:
    """Makes the parts of one server so that ``tell`` is called with each step, in its thread."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._clients = 0
        self.turn = 0
        self.puts = 0  # into the store
        self.in_timer = False
        self.stopping = False

    def step(self, who: str, what: str, detail: str = "", data: bytes = b"") -> None:
        """Tell a step of the present turn."""
        self._tell(Step(self.turn, who, what, detail, data))

    def reactor(self, clock: Callable[[], float]) -> Reactor:
        """Make a reactor that tells."""
        selector: Any = ObservedSelector(selectors.DefaultSelector(), self)
        return cast(Reactor, ObservedReactor(Reactor(clock, selector), self))

    def store(self, store: Store) -> Store:
        """Let a store tell what is put and looked up from now on."""
        return cast(Store, ObservedStore(store, self))

    def connect(
        self,
        sock: socket.socket,
        address: Tuple[object, ...],
        session: Session,
        reactor: Reactor,
        on_close: Callable[[Connection], None],
    ) -> Connection:
        """Do what Connection does, with a socket and a session that tell."""
        self._clients += 1
        client = ObservedSocket(sock, f"c{self._clients}", self)
        told: Any = ObservedSession(session, client)
        connection = Connection(cast(socket.socket, client), address, told, reactor, on_close)
        client.step("opened", "from " + _address(address))
        return connection


class ObservedSelector:
    """Tells when a turn begins, what is ready, and what is waited for."""

    def __init__(self, selector: selectors.BaseSelector, observer: Observer) -> None:
        self._selector = selector
        self._observer = observer
        self._names: Dict[object, str] = {}  # by socket
        self.close = selector.close

    def register(self, sock: Any, events: int, watch: Watch) -> selectors.SelectorKey:
        """Tell that the listener listens; a client is told of when it is open."""
        key = self._selector.register(sock, events, watch)
        if isinstance(sock, ObservedSocket):
            self._names[sock] = sock.name
        elif isinstance(getattr(watch.callback, "__self__", None), Listener):
            self._names[sock] = "listener"
            self._observer.step("listener", "listening", "on " + _address(sock.getsockname()))
        else:
            self._names[sock] = "waker"
        return key

    def modify(self, sock: Any, events: int, watch: Watch) -> selectors.SelectorKey:
        """Tell that a client's interest has changed."""
        try:
            key = self._selector.modify(sock, events, watch)
        except OSError as error:
            sock.why = str(error.strerror)
            raise
        if events == WRITE:
            sock.step("talking", "until all is sent nothing is read")
        else:
            sock.step("listening", "all is sent")
        return key

    def unregister(self, sock: Any) -> selectors.SelectorKey:
        """Tell that the listener does not listen; a client is told of when it is closed."""
        if self._names.pop(sock, "") == "listener":
            if self._observer.stopping:
                self._observer.step("listener", "closed")
            else:
                self._observer.step("listener", "paused", "new clients wait in the kernel")
        return self._selector.unregister(sock)

    def select(self, timeout: Optional[float] = None) -> Ready:
        """Begin a turn, and tell what is ready in it."""
        self._observer.turn += 1
        ready = self._selector.select(timeout)
        if ready:
            told = ", ".join(self._describe(key, events) for key, events in ready[:NAMED_READY])
            if len(ready) > NAMED_READY:
                told = f"{len(ready)} sockets: {told}, ..."
            self._observer.step("loop", "ready", told)
        return ready

    def _describe(self, key: selectors.SelectorKey, events: int) -> str:
        name = self._names[key.fileobj]
        if not isinstance(key.fileobj, ObservedSocket):
            return name
        return name + (" to write" if events & WRITE else " to read")


class ObservedReactor:
    """Tells timers and commits, and when the loop has ended; the selector tells the rest."""

    def __init__(self, reactor: Reactor, observer: Observer) -> None:
        self._reactor = reactor
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    @property
    def commit(self) -> Callback:
        """What is done once in each turn before anything is sent."""
        return self._reactor.commit

    @commit.setter
    def commit(self, callback: Callback) -> None:
        def commit() -> None:
            before = self._observer.puts
            callback()
            if self._observer.puts != before:
                self._observer.step("loop", "committed", "the journal is written")

        self._reactor.commit = commit

    def call_later(self, delay: float, callback: Callback) -> None:
        """Tell when the time has come."""

        def call() -> None:
            self._observer.step("loop", "timer", getattr(callback, "__qualname__", repr(callback)))
            self._observer.in_timer = True
            callback()
            self._observer.in_timer = False

        self._reactor.call_later(delay, call)

    def run(self) -> None:
        """Take turns, and tell when that is over."""
        self._reactor.run()
        self._observer.step("loop", "stopping", "what has arrived is answered")

    def stop(self) -> None:
        """Tell nothing here: this may be a signal handler, inside of the telling of a step."""
        self._observer.stopping = True
        self._reactor.stop()


class ObservedSocket:
    """A client's socket: tells what is received and sent, and why it is closed."""

    def __init__(self, sock: socket.socket, name: str, observer: Observer) -> None:
        self._socket = sock
        self._observer = observer
        self.name = name
        self.why = ""  # it will be closed; "" while nothing tells of an end
        self.input_ended = False
        self.fileno = sock.fileno

    def step(self, what: str, detail: str = "", data: bytes = b"") -> None:
        """Tell a step of this client."""
        self._observer.step(self.name, what, detail, data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Tell what came, or that no more will come."""
        try:
            data = self._socket.recv(size, flags)
        except OSError as error:
            self._failed("received", error)
            raise
        if flags:
            self.step("peeked", "more waits in the kernel")
        elif data:
            self.step("received", _bytes(len(data)), data)
        elif not self.input_ended:
            self.input_ended = True
            self.why = self.why or "end of input"
            self.step("received", "the end of input")
        return data

    def send(self, data: bytes) -> int:
        """Tell how much the kernel took."""
        try:
            sent = self._socket.send(data)
        except OSError as error:
            self._failed("sent", error)
            raise
        whole = f"{_bytes(sent)}, all" if sent == len(data) else f"{sent} of {_bytes(len(data))}"
        self.step("sent", whole, data[:sent])
        return sent

    def shutdown(self, how: int) -> None:
        """Tell which direction has ended."""
        if how == socket.SHUT_RD:
            self.why = "the server stops"
        else:
            self.step("shut", "no more will be sent")
        self._socket.shutdown(how)

    def close(self) -> None:
        """Tell why, the first time."""
        if self._socket.fileno() >= 0:
            self.step("closed", self.why or ("idle" if self._observer.in_timer else "server ends"))
        self._socket.close()

    def _failed(self, what: str, error: OSError) -> None:
        if isinstance(error, (BlockingIOError, InterruptedError)):
            self.step(what, "nothing for now")
        else:
            self.why = str(error.strerror)


class ObservedSession:
    """Tells how many requests were answered, what is left of the input, and the replies."""

    def __init__(self, session: Session, client: ObservedSocket) -> None:
        self._session = session
        self._client = client
        self._last_said = b""  # one byte: the end of a reply may come in two pieces

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def receive(self, data: bytes, more_waiting: bool = False) -> bytes:
        """Take an arrival, or the end of input, which drops a line that is unfinished."""
        if not data and self._session.waiting:
            self._client.step("dropped", "an unfinished line", self._session.waiting)
        return self._told(lambda: self._session.receive(data, more_waiting))

    def replies(self) -> bytes:
        """Go on with what is unfinished."""
        return self._told(self._session.replies)

    def committed(self, said: bytes) -> bytes:
        """Tell if the commit has made replies to puts untrue."""
        replies = self._session.committed(said)
        if replies != said:
            self._client.step("corrected", _bytes(len(replies)), replies)
        return replies

    def _told(self, make_replies: Callable[[], bytes]) -> bytes:
        try:
            said = make_replies()
        except Exception as error:
            self._client.why = f"a fault in the server: {type(error).__name__}"
            raise
        if self._session.over:
            self._client.why = "HTTP"
        answered = (self._last_said + said).count(REPLY_BOUNDARY)
        self._last_said = said[-1:] or self._last_said
        if not self._client.input_ended:
            self._client.step("answered", self._summary(answered), self._session.waiting)
        if said:
            self._client.step("queued", _bytes(len(said)), said)
        return said

    def _summary(self, answered: int) -> str:
        parts = ["no request" if not answered else _count(answered, "request")]
        if self._session.unfinished:
            parts.append("more to do")
        waiting = len(self._session.waiting)
        parts.append(f"{_bytes(waiting)} left to read" if waiting else "nothing left to read")
        return ", ".join(parts)


class ObservedStore:
    """Tells what is put and what is looked up, with points as rows of a reply."""

    def __init__(self, store: Store, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._step = observer.step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, value: float, timestamp: int, _line: bytes = b"") -> None:
        """Store one measurement."""
        try:
            self._store.put(key, value, timestamp)
        except StoreError as error:
            self._step("store", "refused", str(error))
            raise
        self._observer.puts += 1
        self._step("store", "put", "1 point", _row(key, value, timestamp))

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int], _lines: bytes = b""
    ) -> None:
        """Store measurements in their order."""
        self._store.put_many(keys, values, timestamps)
        self._observer.puts += len(keys)
        rows = b"".join(map(_row, keys, values, timestamps))
        self._step("store", "put", _count(len(keys), "point"), rows)

    def find(self, key: str) -> Any:
        """Look up a series."""
        series = self._store.find(key)
        found = "nothing" if series is None else _count(len(series), "point")
        self._step("store", "found", found + " of", key.encode())
        return series

    def every(self) -> Any:
        """Look up every series."""
        self._step("store", "found", "every key")
        return self._store.every()


def _row(key: str, value: float, timestamp: int) -> bytes:
    return f"{key} {value!r} {timestamp}\n".encode()


def _address(address: Tuple[Any, ...]) -> str:
    return format_address(*address[:2])


def _bytes(count: int) -> str:
    return _count(count, "byte")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
