"""Tasks: generators that the loop resumes, with and without a thread."""

import threading
from typing import Iterator, List

import pytest

from metricsd.loop import Reactor, Steps, Task, Worker
from metricsd.loop.tasks import WAY_PAUSE, WAY_SECONDS
from tests.conftest import Clock


@pytest.fixture
def worker(reactor: Reactor) -> Iterator[Worker]:
    worker = Worker(reactor)
    yield worker
    assert worker.close(10)


def test_it_sleeps(reactor: Reactor, clock: Clock) -> None:
    done: List[str] = []

    def steps() -> Steps:
        done.append("begun")
        yield 2.0
        done.append("slept")
        yield 0.0
        done.append("a turn later")

    Task(reactor, steps())
    assert done == ["begun"]
    clock.now += 1
    reactor.turn(0)
    assert done == ["begun"]
    clock.now += 1
    reactor.turn(0)
    assert done == ["begun", "slept"]
    reactor.turn(0)
    assert done == ["begun", "slept", "a turn later"]


def test_what_a_thread_does_comes_back(reactor: Reactor, worker: Worker) -> None:
    found: List[object] = []

    def steps() -> Steps:
        found.append((yield lambda: threading.current_thread()) is threading.current_thread())
        found.append((yield lambda: 6 * 7))
        try:
            yield lambda: 1 // 0
        except ZeroDivisionError:
            found.append("an exception")

    Task(reactor, steps(), worker)
    while len(found) < 3:
        reactor.turn(10)
    assert found == [False, 42, "an exception"]


def test_the_loop_sleeps_while_a_thread_works(reactor: Reactor, worker: Worker) -> None:
    """Woken, not polling: one turn, however long it takes."""
    go, turns, found = threading.Event(), 0, []

    def steps() -> Steps:
        found.append((yield go.wait))

    Task(reactor, steps(), worker)
    timer = threading.Timer(0.2, go.set)
    timer.start()
    while not found:
        reactor.turn(10)
        turns += 1
    timer.join()
    assert turns == 1


def test_calls_run_one_after_the_other(reactor: Reactor, worker: Worker) -> None:
    order: List[int] = []

    def steps(number: int) -> Steps:
        for _ in range(3):
            yield lambda: order.append(number)

    for number in (1, 2):
        Task(reactor, steps(number), worker)
    while len(order) < 6:
        reactor.turn(10)
    assert order == [1, 2] * 3


def test_one_that_fails_is_logged_and_ends_alone(
    reactor: Reactor, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    done: List[int] = []

    def bad() -> Steps:
        yield 1.0
        raise ZeroDivisionError("made by the test")

    def good() -> Steps:
        yield 1.0
        done.append(1)

    Task(reactor, bad())
    Task(reactor, good())
    clock.now += 1
    reactor.turn(0)
    assert done == [1]
    assert "made by the test" in caplog.text
    assert "Traceback" in caplog.text


def test_one_that_fails_in_its_thread_is_logged(
    reactor: Reactor, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def steps() -> Steps:
        yield lambda: 1 // 0

    Task(reactor, steps(), worker)
    while "ZeroDivisionError" not in caplog.text:
        reactor.turn(10)


def test_a_function_without_a_thread_is_a_fault(
    reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    def steps() -> Steps:
        yield lambda: 1

    Task(reactor, steps())
    assert "this task has no worker" in caplog.text


def test_a_cancelled_one_does_not_go_on(reactor: Reactor, clock: Clock, worker: Worker) -> None:
    done: List[str] = []

    def steps(pause: object) -> Steps:
        try:
            yield pause  # type: ignore[misc]
            done.append("went on")
        finally:
            done.append("cleaned up")

    called = threading.Event()
    for task in (Task(reactor, steps(1.0)), Task(reactor, steps(called.set), worker)):
        task.cancel()
        task.cancel()
    assert called.wait(10)
    clock.now += 1
    reactor.turn(0)
    reactor.turn(0)
    assert done == ["cleaned up"] * 2


def test_a_thread_that_hangs_is_not_waited_for_long(reactor: Reactor) -> None:
    hanging = threading.Event()
    worker = Worker(reactor)
    worker.call(hanging.wait, lambda *_: None)
    assert not worker.close(0.05)
    hanging.set()
    worker._thread.join()


def test_a_busy_loop_gives_way_to_the_thread_now_and_then(
    reactor: Reactor, clock: Clock, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only while there is a call under way, and not in every turn."""
    slept: List[float] = []
    monkeypatch.setattr("metricsd.loop.tasks.time.sleep", slept.append)
    go, done = threading.Event(), []
    reactor.turn(0)
    assert slept == []
    worker.call(go.wait, lambda *_: done.append(1))
    for _ in range(10):
        reactor.turn(0)
    assert slept == [WAY_SECONDS]
    clock.now += WAY_PAUSE
    reactor.turn(0)
    assert slept == [WAY_SECONDS] * 2
    go.set()
    while not done:
        reactor.turn(10)
    slept.clear()
    clock.now += WAY_PAUSE
    reactor.turn(0)
    assert slept == []
