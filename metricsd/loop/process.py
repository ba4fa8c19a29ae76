"""The process: signals and limits that belong to it as a whole rather than to one loop.

Owns which signals stop a server, and how a handler gets through to a loop that sleeps.
"""

import contextlib
import gc
import signal
import sys
import threading
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None  # type: ignore[assignment]

# Objects that are made before the collector looks through them, at some 10 ns each: a third of a
# millisecond. Those that are left are looked through once more, with as many others, and no more.
YOUNG_OBJECTS = 10000
NEVER = 1000000000

# Seconds that a thread beside the loop waits for the lock of Python at most: a busy loop gives it
# up at each system call, but takes it back before the thread has woken up. Python's own are 5 ms.
SWITCH_SECONDS = 0.0005

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Handler = Callable[[int, Any], None]
NO_OTHERS: Dict[str, Callable[[], None]] = {}


@contextlib.contextmanager
def stopped_by_signals(
    stop: Callable[[], None],
    wake_descriptor: int,
    others: Mapping[str, Callable[[], None]] = NO_OTHERS,
) -> Iterator[None]:
    """SIGINT and SIGTERM call ``stop``; a second one ends the process at once.

    ``others`` are called at other signals, by their names; one that the system does not have, or
    that the process was told to ignore, as by nohup, is left alone. In a thread other than the main
    one, where Python allows no signal handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_signal: int, _frame: object) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        stop()

    handlers: Dict[int, Handler] = dict.fromkeys(STOP_SIGNALS, handle)
    handlers.update(_handlers(others))
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    # The self-pipe trick: a signal writes a byte to a socket that the loop waits for.
    wake_before = signal.set_wakeup_fd(wake_descriptor)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wake_before)
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _handlers(actions: Mapping[str, Callable[[], None]]) -> Iterator[Tuple[int, Handler]]:
    for name, action in actions.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            yield number, _handler(action)


def _handler(action: Callable[[], None]) -> Handler:
    return lambda _signal, _frame: action()


def raise_descriptor_limit() -> None:
    """Let this process open as many descriptors as the system allows it; each client takes one."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # macOS: "unlimited" can't be had; at the limit, clients wait


def share_the_lock() -> None:
    """Let threads beside a busy loop have Python's lock within SWITCH_SECONDS."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))


def bound_garbage_collection() -> None:
    """Keep Python's collector from looking through all objects that there are.

    With a million series that would stop everybody for 226 ms, again and again, to find nothing:
    series are never garbage, and a connection that is closed leaves no circle behind.
    """
    gc.set_threshold(YOUNG_OBJECTS, 1, NEVER)
