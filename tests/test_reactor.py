"""The loop, with real descriptors and a clock that the test moves."""

import contextlib
import os
import random
import select
import selectors
import signal
import socket
import threading
import time
from functools import partial
from typing import Callable, Dict, Iterator, List, Tuple

import pytest

from metricsd.loop import READ, WRITE, Reactor, Watch
from metricsd.loop.polling import EpollSelector
from tests.conftest import Clock


@pytest.fixture
def pairs() -> Iterator[List[Tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(3)]
    yield pairs
    for pair in pairs:
        for end in pair:
            end.close()


Pairs = List[Tuple[socket.socket, socket.socket]]


class Answerer:
    def __init__(self, answer: Callable[[], None]) -> None:
        self.answer = answer


def test_a_turn_reads_all_then_commits_once_then_writes_all(reactor: Reactor, pairs: Pairs) -> None:
    steps: List[str] = []

    def read() -> None:
        steps.append("read")
        reactor.to_answer.append(Answerer(lambda: steps.append("write")))

    reactor.once_a_turn.append(lambda: steps.append("commit"))
    for ours, theirs in pairs:
        reactor.watch(ours, READ, read)
        theirs.send(b"x")
    reactor.turn(0)
    assert steps == ["read"] * 3 + ["commit"] + ["write"] * 3


def test_a_write_is_not_repeated_in_the_next_turn(reactor: Reactor) -> None:
    steps: List[str] = []
    reactor.to_answer.append(Answerer(lambda: steps.append("write")))
    reactor.turn(0)
    reactor.turn(0)
    assert steps == ["write"]


def test_interest_can_change(reactor: Reactor, pairs: Pairs) -> None:
    ours, theirs = pairs[0]
    called: List[int] = []
    watch = reactor.watch(ours, READ, lambda: called.append(1))
    reactor.turn(0)
    assert called == []
    watch.change(WRITE, lambda: called.append(2))
    watch.change(WRITE, lambda: called.append(1))
    reactor.turn(0)
    assert called == [1]
    watch.change(READ, lambda: called.append(1))
    reactor.turn(0)
    assert called == [1]
    theirs.send(b"x")
    reactor.turn(0)
    assert called == [1, 1]
    watch.forget()
    watch.forget()
    watch.change(WRITE, lambda: called.append(1))
    reactor.turn(0)
    assert called == [1, 1]


def test_a_stale_event_is_dropped(reactor: Reactor, pairs: Pairs) -> None:
    """Whichever of the three comes first closes the others, which are ready in the same turn."""
    called: List[int] = []
    watches: List[Watch] = []

    def close_the_others(mine: int) -> None:
        called.append(mine)
        for number, (ours, _) in enumerate(pairs):
            if number != mine:
                watches[number].forget()
                ours.close()

    for number, (ours, theirs) in enumerate(pairs):
        watches.append(reactor.watch(ours, READ, partial(close_the_others, number)))
        theirs.send(b"x")
    reactor.turn(0)
    assert len(called) == 1


def test_a_descriptor_that_is_another_s_by_now_gets_no_stale_event(
    reactor: Reactor, pairs: Pairs
) -> None:
    called: List[str] = []
    reborn: List[socket.socket] = []
    watches: List[Watch] = []

    def replace(mine: int) -> None:
        called.append("first")
        other = pairs[1 - mine][0]
        descriptor = other.fileno()
        watches[1 - mine].forget()
        other.close()
        reborn.append(socket.socket())
        assert reborn[0].fileno() == descriptor
        watches.append(reactor.watch(reborn[0], WRITE, lambda: called.append("reborn")))

    for number in (0, 1):
        watches.append(reactor.watch(pairs[number][0], READ, partial(replace, number)))
        pairs[number][1].send(b"x")
    reactor.turn(0)
    assert called == ["first"]
    watches[-1].forget()
    reborn[0].close()


def test_a_hang_up_counts_as_ready_whatever_is_watched(reactor: Reactor, pairs: Pairs) -> None:
    ours, theirs = pairs[0]
    called: List[int] = []
    ours.setblocking(False)
    try:
        while True:
            ours.send(b"x" * 65536)
    except BlockingIOError:
        pass
    reactor.watch(ours, WRITE, lambda: called.append(1))
    reactor.turn(0)
    assert called == []
    theirs.close()
    reactor.turn(0)
    assert called == [1]


def test_timers_run_when_they_are_due_and_in_order(reactor: Reactor, clock: Clock) -> None:
    steps: List[str] = []
    reactor.call_later(2, lambda: steps.append("two"))
    reactor.call_later(1, lambda: steps.append("one"))
    reactor.call_later(1, lambda: steps.append("one again"))
    reactor.turn(0)
    assert steps == []
    clock.now += 1
    reactor.turn()
    assert steps == ["one", "one again"]
    clock.now += 5
    reactor.turn()
    assert steps == ["one", "one again", "two"]


def test_a_timer_can_set_itself_again(reactor: Reactor, clock: Clock) -> None:
    times: List[float] = []

    def again() -> None:
        times.append(clock.now)
        reactor.call_later(10, again)

    reactor.call_later(10, again)
    for _ in range(30):
        clock.now += 1
        reactor.turn(0)
    assert times == [1010.0, 1020.0, 1030.0]


def test_a_wait_ends_when_a_timer_is_due() -> None:
    reactor = Reactor()
    called: List[int] = []
    reactor.call_later(0.05, lambda: called.append(1))
    reactor.turn(30)
    assert called == [1]
    reactor.close()


def test_a_timer_in_the_far_future_is_no_error(reactor: Reactor) -> None:
    reactor.call_later(1e300, lambda: None)
    reactor.to_answer.append(Answerer(reactor.stop))
    reactor.turn(0)
    reactor.turn()  # the stop has woken it


def test_stop_from_another_thread() -> None:
    reactor = Reactor()
    thread = threading.Thread(target=reactor.run)
    thread.start()
    reactor.stop()
    thread.join(10)
    assert not thread.is_alive()
    reactor.close()
    reactor.stop()  # afterwards it is harmless


def test_stop_before_run_is_not_lost(reactor: Reactor) -> None:
    reactor.stop()
    reactor.run()


def test_a_signal_ends_the_wait() -> None:
    """The handler only sets a flag; what ends the wait is the byte on the wake descriptor."""
    reactor = Reactor()
    flag: List[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: flag.append(1))
    descriptor = signal.set_wakeup_fd(reactor.wake_descriptor)
    try:
        started = time.monotonic()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        reactor.turn(30)
        assert flag
        assert time.monotonic() - started < 10
        timer.join()
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGUSR1, before)
        reactor.close()


def test_a_refused_watch_leaves_no_trace(reactor: Reactor, pairs: Pairs) -> None:
    ours, _ = pairs[0]
    with pytest.raises(OSError), open(os.devnull) as file:  # epoll takes no plain file
        reactor.watch(file, READ, lambda: None)  # type: ignore[arg-type]
    reactor.watch(ours, READ, lambda: None)
    reactor.turn(0)


def test_a_timer_that_is_always_due_does_not_hold_the_loop(reactor: Reactor) -> None:
    called: List[int] = []

    def again() -> None:
        called.append(1)
        reactor.call_later(-1, again)

    again()
    for _ in range(3):
        reactor.turn()
    assert len(called) == 4


def test_a_cancelled_timer_is_not_called(reactor: Reactor, clock: Clock) -> None:
    called: List[int] = []
    timer = reactor.call_later(1, lambda: called.append(1))
    reactor.call_later(1, lambda: called.append(2))
    timer.cancel()
    timer.cancel()
    clock.now += 1
    reactor.turn(0)
    assert called == [2]


def test_a_timer_cancelled_by_one_that_is_due_with_it(reactor: Reactor, clock: Clock) -> None:
    called: List[int] = []
    reactor.call_later(1, lambda: second.cancel())
    second = reactor.call_later(1, lambda: called.append(2))
    clock.now += 1
    reactor.turn(0)
    assert called == []


def test_a_timer_that_fails_is_logged_and_ends_nothing(
    reactor: Reactor, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    called: List[int] = []
    reactor.call_later(1, lambda: 1 / 0)  # type: ignore[arg-type]
    reactor.call_later(1, lambda: called.append(1))
    clock.now += 1
    reactor.turn(0)
    assert called == [1]
    assert "ZeroDivisionError" in caplog.text


def test_what_other_threads_post_is_called_in_the_loop_and_in_order() -> None:
    reactor = Reactor()
    called: List[Tuple[int, threading.Thread]] = []

    def note(number: int) -> None:
        called.append((number, threading.current_thread()))

    def post() -> None:
        for number in range(100):
            reactor.post(partial(note, number))
        reactor.post(reactor.stop)

    thread = threading.Thread(target=post)
    thread.start()
    reactor.run()
    thread.join()
    assert called == [(number, threading.current_thread()) for number in range(100)]
    reactor.close()


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is Linux's")
def test_the_short_way_to_wait_tells_what_the_plain_one_tells() -> None:
    """Sockets that may or may not be readable and writable, and some whose other end has gone."""
    dice = random.Random(6)
    with contextlib.ExitStack() as stack:
        quick, plain = EpollSelector(), selectors.DefaultSelector()
        stack.callback(quick.close)
        stack.callback(plain.close)
        watched: Dict[socket.socket, socket.socket] = {}
        for step in range(600):
            if len(watched) < 10:
                ours, theirs = map(stack.enter_context, socket.socketpair())
                ours.setblocking(False)
                for one in (quick, plain):
                    one.register(ours, READ, step)
                watched[ours] = theirs
            sock = dice.choice(list(watched))
            what = dice.choice(
                ["ask", "fill", "leave", "read", "forget", "read only", "write only"]
            )
            if what == "ask" and watched[sock].fileno() >= 0:
                watched[sock].send(b"x")
            elif what == "fill":
                with contextlib.suppress(OSError):
                    while sock.send(b"x" * 100000):
                        pass
            elif what == "leave":
                watched[sock].close()
            elif what == "read":
                with contextlib.suppress(OSError):
                    sock.recv(100)
            elif what == "forget":
                del watched[sock]
            for one in (quick, plain):
                if what == "forget":
                    one.unregister(sock)
                elif what.endswith("only"):
                    one.modify(sock, READ if what == "read only" else WRITE, step)
            found = {key.fileobj: (key, events) for key, events in quick.select(0)}
            assert found == {key.fileobj: (key, events) for key, events in plain.select(0)}
            assert sorted(quick.ready(0)) == sorted(key.data for key, _ in plain.select(0))
            assert dict(quick.get_map()) == {key.fileobj: key for key in plain.get_map().values()}


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is Linux's")
def test_what_only_the_system_knows_of_is_not_ready() -> None:
    with contextlib.ExitStack() as stack:
        selector = EpollSelector()
        stack.callback(selector.close)
        socks = [sock for _ in range(2) for sock in map(stack.enter_context, socket.socketpair())]
        for ours, theirs in zip(socks[::2], socks[1::2]):
            selector.register(ours, READ, ours)
            theirs.send(b"x")
        assert set(selector.ready(0)) == {socks[0], socks[2]}
        del selector._keys[socks[0].fileno()], selector._data[socks[0].fileno()]
        looks = [selector.ready(0) for _ in range(4)]  # at so many sockets as it knows of, in turn
        assert {sock for ready in looks for sock in ready} == {socks[2]}
