"""A real server on a free port for each test that asks for one, a loop, a folder."""

import contextlib
import gc
import logging
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from metricsd import Server
from metricsd.loop import Reactor
from tests.conversation import Conversation


@contextlib.contextmanager
def running(*arguments: Any, **limits: Any) -> Iterator[Server]:
    """A server in a thread of its own; leaving waits for its end and shows what it raised."""
    failures: List[BaseException] = []

    def serve() -> None:
        try:
            server.serve_forever()
        except BaseException as error:
            failures.append(error)

    with Server(*(arguments or ("127.0.0.1", 0)), **limits) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(20)
    assert not thread.is_alive()
    assert not failures, failures


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Let those that wait for a long program come last: it has had all the others' time.

    For the same reason those that start one come first, where their file is one of the last.
    """

    def place(item: pytest.Item) -> int:
        marked = [item.get_closest_marker(name) is not None for name in ("starts", "waits")]
        return marked[1] - marked[0]

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Keep the collector from looking through thousands of tests again and again."""
    if hasattr(gc, "freeze"):  # from Python 3.7 on
        gc.freeze()


def pytest_configure() -> None:
    """Let hundreds of programs, which tests start, not compile the same modules each time.

    Run as well under nohup, which has SIGHUP ignored, also by every program that is started: a
    handler, which does nothing, is not handed down, so those begin with what is usual.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # some images set it
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def forget_log_lines() -> None:
    """What has been logged is logged again, also by a one-file build's own copy."""
    for one in logging.getLogger("metricsd").filters:
        getattr(one, "last", {}).clear()


@pytest.fixture(autouse=True)
def _no_log_line_is_old() -> None:
    forget_log_lines()


class Clock:
    """One that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reactor(clock: Clock) -> Iterator[Reactor]:
    reactor = Reactor(clock)
    yield reactor
    reactor.close()


@contextlib.contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder for files whose syncs are not the subject: in memory, where the system has that."""
    in_memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=in_memory if os.access(in_memory, os.W_OK) else None) as f:
        yield Path(f)


@pytest.fixture(name="quick_path")
def _quick_path() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def talk(server: Server) -> Iterator[Callable[..., Conversation]]:
    """Open a conversation with the server; all are closed at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Conversation(server.address, **options))
