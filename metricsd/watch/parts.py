"""The parts of a server, which do the same as the plain ones and tell each step that they take.

Owns where in a part each step is taken: at its doors, as far as possible, so that its inside may
change. Does not know what becomes of a step. A server that nobody observes is made of plain parts.
"""

import functools
import selectors
import socket
from io import BytesIO
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from metricsd.loop import (
    WRITE,
    Address,
    Callback,
    Connection,
    Endpoint,
    Listener,
    Reactor,
    Ready,
    Timer,
    Watch,
)
from metricsd.loop import Session as AnySession
from metricsd.protocol import Dispatcher, Session
from metricsd.store import Receipt, Series, Store, StoreError
from metricsd.watch import steps
from metricsd.watch.observer import Observer, Tell
from metricsd.watch.steps import LISTENER, WAKER, Cause, Phase, Point, Step

REPLY_BOUNDARY = b"\n\n"  # ends each reply, and is nowhere else in one: PROTOCOL.md


def observed(tell: Tell) -> Dict[str, Any]:
    """What to give to ``Parts`` for one server, so that it calls ``tell`` with each step."""
    observer = Observer(tell)
    return {
        "reactor": functools.partial(ObservedReactor, observer),
        "listener": functools.partial(ObservedListener, observer),
        "connection": functools.partial(ObservedConnection, observer),
        "session": functools.partial(ObservedSession, observer),
        "around_store": functools.partial(ObservedStore, observer),
    }


class ObservedReactor(Reactor):
    """Tells what is ready, which timers are due, and when the turns are over."""

    def __init__(
        self,
        observer: Observer,
        clock: Callable[[], float],
        selector: Optional[selectors.BaseSelector] = None,
    ) -> None:
        self._observer = observer
        super().__init__(clock, selector)
        self.once_a_turn = CommitPhase(observer)
        self.call_later = self._call_later

    def watch(self, sock: socket.socket, events: int, callback: Callback) -> Watch:
        """Call back in each turn that finds the socket ready for ``events``."""
        return ObservedWatch(self._observer, self._selector, sock, events, callback)

    def turn(self, timeout: Optional[float] = None) -> None:
        """Take a turn."""
        self._observer.begin_turn()
        super().turn(timeout)
        self._observer.begin(Phase.WAIT)

    def run(self) -> None:
        """Take turns until ``stop`` is called."""
        super().run()
        self._observer.stopping = True
        self._observer.tell(steps.Stopping(self._observer.at))

    def _select(self, timeout: Optional[float]) -> Ready:
        ready = super()._select(timeout)
        observer = self._observer
        observer.begin(Phase.READ)
        if ready:
            sockets = (
                steps.ReadySocket(observer.name_of(watch._socket), watch.events == WRITE)
                for watch in ready
            )
            observer.tell(steps.Ready(observer.at, tuple(sockets)))
        return ready

    def _call_later(self, delay: float, callback: Callback) -> Timer:
        observer = self._observer

        def call() -> None:
            observer.tell(steps.TimerDue(observer.at, callback))
            observer.in_timer = True
            try:
                callback()
            finally:
                observer.in_timer = False

        return self._timers.add(delay, call)


class CommitPhase(List[Callback]):
    """What the reactor does once a turn; to walk through it is the second phase of the turn."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    def __iter__(self) -> Iterator[Callback]:
        observer = self._observer
        observer.begin(Phase.COMMIT)
        yield from super().__iter__()
        if observer.open_points:
            observer.tell(steps.Committed(observer.at, observer.open_points))
            observer.open_points = 0
        observer.begin(Phase.WRITE)


class ObservedWatch(Watch):
    """Tells what the loop waits for on behalf of a client, as soon as it is known who that is."""

    __slots__ = ("_observer",)

    def __init__(
        self,
        observer: Observer,
        selector: selectors.BaseSelector,
        sock: socket.socket,
        events: int,
        callback: Callback,
    ) -> None:
        self._observer = observer
        super().__init__(selector, sock, events, callback)
        self._tell(steps.Watched, True)

    def change(self, events: int, callback: Callback) -> None:
        """Wait for READ or for WRITE from now on."""
        before = self.events
        super().change(events, callback)
        if self.events != before:
            self._tell(steps.Interest, events == WRITE)

    def forget(self) -> None:
        """Watch no more."""
        if self.callback is not None and not self._observer.stopping:
            self._tell(steps.Watched, False)
        super().forget()

    def _tell(self, kind: Callable[..., Step], fact: bool) -> None:
        name = self._observer.name_of(self._socket)
        if name not in (LISTENER, WAKER):
            self._observer.tell(kind(self._observer.at, name, fact))


class ObservedListener(Listener):
    """Tells when new clients are waited for, and when not."""

    def __init__(self, observer: Observer, endpoint: Endpoint, *others: Any) -> None:
        self._observer = observer
        for sock in endpoint.sockets:
            observer.name(sock, LISTENER)
        super().__init__(endpoint, *others)

    def resume(self) -> None:
        """There may be room again."""
        before = bool(self._watches)
        super().resume()
        if self._watches and not before:
            for sock in self._sockets:
                self._observer.tell(steps.Listening(self._observer.at, sock.getsockname()))

    def close(self) -> None:
        """Accept no more."""
        sockets = self._sockets
        super().close()
        for sock in sockets:
            self._observer.forget(sock)
        if sockets:
            self._observer.tell(steps.NotListening(self._observer.at))

    def _pause(self, reason: str, seconds: Optional[float] = None) -> None:
        super()._pause(reason, seconds)
        self._observer.tell(steps.Paused(self._observer.at))


class Overheard:
    """A session, and what it has said last."""

    def __init__(self, session: AnySession) -> None:
        self._session = session
        self.last_said = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def replies(self) -> bytes:
        """What there is to say."""
        self.last_said = self._session.replies()
        return self.last_said


class ObservedConnection(Connection):
    """Tells what a client is sent, and why it is closed."""

    def __init__(
        self,
        observer: Observer,
        sock: socket.socket,
        address: Address,
        session: AnySession,
        reactor: Reactor,
        on_close: Callable[[Connection], None],
    ) -> None:
        self._observer = observer
        self._told = True  # what is sent in this turn
        self._unsent = b""  # that was left of the turns before
        self._error: Optional[Exception] = None  # it failed
        self._overheard = Overheard(session)
        super().__init__(sock, address, self._overheard, reactor, on_close)
        self.name = observer.client_comes()
        observer.name(sock, self.name)
        observer.tell(steps.Opened(observer.at, self.name, address))

    def end_input(self) -> None:
        """Answer what has arrived, then close."""
        self._ending = True
        super().end_input()

    def close(self) -> None:
        """End the connection now. Closing twice is harmless."""
        if self._socket.fileno() >= 0:
            self._observer.forget(self._socket)
            self._tell(steps.Closed, self._cause(), self._error)
        super().close()

    def _tell(self, kind: Callable[..., Step], *facts: Any) -> None:
        self._observer.tell(kind(self._observer.at, self.name, *facts))

    def _cause(self) -> Cause:
        if self._error is not None:
            return Cause.FAILED
        if self._ending:
            return Cause.STOPPING
        if self.session.over:
            return Cause.OVER
        if self._input_ended:
            return Cause.INPUT_ENDED
        return Cause.IDLE if self._observer.in_timer else Cause.SERVER_CLOSED

    def answer(self) -> None:
        """Send once, and decide what to wait for."""
        self._told = False
        self._unsent = self._outbox
        self._overheard.last_said = b""
        super().answer()
        self._tell_sent()

    def _wait_for_next(self) -> None:
        self._tell_sent()
        super()._wait_for_next()

    def _tell_sent(self) -> None:
        """Tell what is said, and how much of it and of what was left has been sent."""
        said = self._tell_queued()
        if said:
            sent = len(said) - len(self._outbox)
            self._tell(steps.Sent, said[:sent], len(said))

    def _tell_queued(self) -> bytes:
        """Tell what is said, once; return all that there is to send."""
        if self._told:
            return b""
        self._told = True
        if self._overheard.last_said:
            self._tell(steps.Queued, self._overheard.last_said)
        return self._unsent + self._overheard.last_said

    def _end(self) -> None:
        before = self._lingering
        super()._end()
        if self._lingering and not before:
            self._tell(steps.Shut)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._tell_queued()
        super()._fail(error)
        self._error = None  # whose traceback knows this connection: a circle


class ObservedSession(Session):
    """Tells what a client sends, how many requests are answered, and what is left of the input."""

    def __init__(self, observer: Observer, dispatcher: Dispatcher, max_line_bytes: int) -> None:
        super().__init__(dispatcher, max_line_bytes)
        self._observer = observer
        self._client = observer.next_client()
        self._input_ended = False
        self._has_run = False  # something, since there were replies
        self._last_said = b""  # one byte: the end of a reply may come in two pieces

    @property
    def input_left(self) -> bytes:
        """The input that has not been run: an unfinished line, or lines that wait."""
        lines = self._lines_left
        left = lines.getvalue()[lines.tell() :] if isinstance(lines, BytesIO) else b""
        return (self._held_line or b"") + left + bytes(self._lines._buffer)

    def receive(self, data: bytes, more_waiting: bool = False) -> None:
        """Take an arrival; the end of input drops a line that is unfinished."""
        if data:
            self._has_run = True
            self._tell(steps.Received, data)
        elif not self._input_ended:
            self._input_ended = True
            self._tell(steps.InputEnded)
            if self.input_left:
                self._tell(steps.Dropped, self.input_left)
        if more_waiting:
            self._tell(steps.Peeked)
        super().receive(data, more_waiting)

    def go_on(self) -> None:
        """Run what is unfinished."""
        self._has_run = not self._input_ended
        super().go_on()

    def when_answered(self, callback: Callback) -> None:
        """Call back when a receipt is settled."""
        self._tell(steps.Waiting)
        super().when_answered(callback)

    def replies(self) -> bytes:
        """What there is to say."""
        said = super().replies()
        requests = (self._last_said + said).count(REPLY_BOUNDARY)
        self._last_said = said[-1:] or self._last_said
        if self._has_run:
            self._has_run = False
            self._tell(steps.Answered, requests, self.waiting, self.unfinished, self.input_left)
        return said

    def _tell(self, kind: Callable[..., Step], *facts: Any) -> None:
        self._observer.tell(kind(self._observer.at, self._client, *facts))


class ObservedStore(Store):
    """Tells what is put and looked up, and what becomes of puts that were not settled at once."""

    def __init__(self, observer: Observer, store: Store) -> None:
        self._observer = observer
        self._store = store
        self._open: Dict[Receipt, int] = {}  # the points of each receipt that is open

    @property
    def slow_puts(self) -> int:  # type: ignore[override]
        """Puts so far that had to open or seal a block."""
        return self._store.slow_puts

    @property
    def room(self) -> int:
        """The points for which there is room in any case."""
        return self._store.room

    def put(self, key: str, value: float, timestamp: int) -> Receipt:
        """Take one point."""
        try:
            receipt = self._store.put(key, value, timestamp)
        except StoreError as error:
            self._observer.tell(steps.Refused(self._observer.at, error))
            raise
        self._tell_put((Point(key, value, timestamp),), receipt)
        return receipt

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int]
    ) -> Tuple[int, Receipt]:
        """Take points in their order, the first ones at least."""
        taken, receipt = self._store.put_many(keys, values, timestamps)
        self._tell_put(tuple(map(Point, keys[:taken], values, timestamps)), receipt)
        return taken, receipt

    def find(self, key: str) -> Optional[Series]:
        """The series of a key; None if there is none."""
        series = self._store.find(key)
        points = None if series is None else len(series)
        self._observer.tell(steps.Found(self._observer.at, key, points))
        return series

    def items(self) -> Iterator[Tuple[str, Series]]:
        """Yield every key that is there now, with its series."""
        self._observer.tell(steps.FoundAll(self._observer.at))
        return self._store.items()

    def drop_before(self, oldest: int) -> Iterator[None]:
        """Drop every point before a timestamp, a little at each step."""
        return self._store.drop_before(oldest)

    def drop(self, keys: List[str]) -> Receipt:
        """Drop these keys; nobody is told."""
        return self._store.drop(keys)

    @property
    def late_blocks(self) -> int:
        """The blocks that have grown by late points."""
        return self._store.late_blocks

    def seal_late(self) -> None:
        """Make one of them smaller; nobody is told."""
        self._store.seal_late()

    def close(self) -> None:
        """Give back what the store holds outside of this process."""
        self._store.close()

    def _tell_put(self, points: Tuple[Point, ...], receipt: Receipt) -> None:
        observer = self._observer
        if receipt.refusal is not None:
            observer.tell(steps.Refused(observer.at, receipt.refusal))
        else:
            observer.tell(steps.Put(observer.at, points, receipt.settled))
        if receipt.settled:
            return
        observer.open_points += len(points)
        if receipt in self._open:
            self._open[receipt] += len(points)
        else:
            self._open[receipt] = len(points)
            receipt.when_settled(lambda: self._tell_settled(receipt))

    def _tell_settled(self, receipt: Receipt) -> None:
        points = self._open.pop(receipt)
        self._observer.tell(steps.Settled(self._observer.at, points, receipt.refusal))
