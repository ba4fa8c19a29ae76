"""The trace: a running commentary on what the loop does, one line a step.

Owns how a step looks as a line of text. Does not know how steps come about: it is told them.
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, TextIO, Tuple

from metricsd.loop import say_address
from metricsd.watch import steps
from metricsd.watch.steps import LISTENER, WAKER, Cause, Point, ReadySocket, Step

# No line is longer, so that none breaks in a terminal of usual size, whatever a client sends.
TRACE_COLUMNS = 100

# Characters of the bytes of a step that are shown, as Python writes them.
EXCERPT_CHARACTERS = 44

# Sockets that are named when the selector returns; of more the number is told.
NAMED_READY = 4

CUT = "..."


class Trace:
    """Writes each step that it is told. A stream that fails is written to no more."""

    def __init__(self, stream: Optional[TextIO]) -> None:
        """Write to a stream; None, as sys.stderr may be, is one that has failed."""
        self._stream = stream
        self._turn = -1  # of the last line

    def __call__(self, step: Step) -> None:
        """Write a line; the first one of a turn says which turn it is."""
        line = trace_line(step, first_of_turn=step.at.turn != self._turn)
        self._turn = step.at.turn
        if self._stream is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # what reads it has gone; the server has not
                self._stream = None


class Line(NamedTuple):
    """The columns of a line after the turn."""

    who: str
    what: str
    detail: str = ""
    data: Optional[bytes] = None  # of which an excerpt is shown


def trace_line(step: Step, first_of_turn: bool) -> str:
    """A step in columns: turn, who, what, and the rest."""
    who, what, detail, data = LINES[type(step)](step)
    turn = f"turn {step.at.turn}" if step.at.turn else "start"
    line = f"{turn if first_of_turn else '':9} {who:9} {what:10} {detail}"
    if data is not None:
        line += "  " + excerpt(data)
    line = line.rstrip().encode("ascii", "backslashreplace").decode()
    return line if len(line) <= TRACE_COLUMNS else line[: TRACE_COLUMNS - len(CUT)] + CUT


def excerpt(data: bytes) -> str:
    """The front of some bytes, escaped, in EXCERPT_CHARACTERS at most and the sign of a cut."""
    shown = data[:EXCERPT_CHARACTERS]
    while len(repr(shown)) - len("b") > EXCERPT_CHARACTERS:
        shown = shown[:-1]  # no escape is cut in two
    return repr(shown)[1:] + (CUT if len(shown) < len(data) else "")


def _listening(step: steps.Listening) -> Line:
    return Line(LISTENER, "listening", "on " + _address(step.address))


def _ready(step: steps.Ready) -> Line:
    named = ", ".join(map(_ready_socket, step.sockets[:NAMED_READY]))
    many = len(step.sockets) > NAMED_READY
    return Line("loop", "ready", f"{len(step.sockets)} sockets: {named}, ..." if many else named)


def _ready_socket(ready: ReadySocket) -> str:
    if ready.who in (LISTENER, WAKER):
        return ready.who
    return ready.who + (" to write" if ready.to_write else " to read")


def _timer_due(step: steps.TimerDue) -> Line:
    return Line("loop", "timer", getattr(step.callback, "__qualname__", repr(step.callback)))


def _opened(step: steps.Opened) -> Line:
    return Line(step.client, "opened", "from " + _address(step.address))


def _received(step: steps.Received) -> Line:
    return Line(step.client, "received", _bytes(len(step.data)), step.data)


def _dropped(step: steps.Dropped) -> Line:
    return Line(step.client, "dropped", "an unfinished line", step.data)


def _put(step: steps.Put) -> Line:
    later = "" if step.stored else ", not stored yet"
    points = _count(len(step.points), "point")
    return Line("store", "put", points + later, b"".join(map(_row, step.points)))


def _committed(step: steps.Committed) -> Line:
    return Line("loop", "committed", _count(step.points, "point") + ", once for all clients")


def _settled(step: steps.Settled) -> Line:
    points = _count(step.points, "point")
    if step.refusal is None:
        return Line("store", "stored", points)
    return Line("store", "refused", f"{points}: {step.refusal}")


def _found(step: steps.Found) -> Line:
    found = "nothing" if step.points is None else _count(step.points, "point")
    return Line("store", "found", found + " of", step.key.encode())


def _answered(step: steps.Answered) -> Line:
    told = [_count(step.requests, "request") if step.requests else "no request"]
    if step.waiting:
        told[0] += " yet"
    if step.unfinished:
        told.append("more to do")
    left = step.input_left
    told.append(f"{_bytes(len(left))} left to read" if left else "nothing left to read")
    return Line(step.client, "answered", ", ".join(told), left or None)


def _queued(step: steps.Queued) -> Line:
    return Line(step.client, "queued", _bytes(len(step.data)), step.data)


def _watched(step: steps.Watched) -> Line:
    if step.again:
        return Line(step.client, "watched", "again")
    return Line(step.client, "unwatched", "what it sends waits in the kernel")


def _sent(step: steps.Sent) -> Line:
    sent = len(step.data)  # which were shown when they were queued
    if not sent:
        return Line(step.client, "sent", "nothing for now")
    whole = sent == step.total
    return Line(
        step.client, "sent", f"{_bytes(sent)}, all" if whole else f"{sent} of {_bytes(step.total)}"
    )


def _interest(step: steps.Interest) -> Line:
    if step.talking:
        return Line(step.client, "talking", "until all is sent nothing is read")
    return Line(step.client, "listening", "all is sent")


def _closed(step: steps.Closed) -> Line:
    if step.cause is not Cause.FAILED:
        why = CAUSES[step.cause]
    elif isinstance(step.error, OSError):
        why = str(step.error.strerror)
    else:
        why = f"a fault in the server: {type(step.error).__name__}"
    return Line(step.client, "closed", why)


CAUSES = {
    Cause.INPUT_ENDED: "end of input",
    Cause.OVER: "HTTP or TLS",
    Cause.STOPPING: "the server stops",
    Cause.IDLE: "idle",
    Cause.SERVER_CLOSED: "server ends",
}

LINES: Dict[type, Callable[[Any], Line]] = {
    steps.Listening: _listening,
    steps.Paused: lambda step: Line(LISTENER, "paused", "new clients wait in the kernel"),
    steps.NotListening: lambda step: Line(LISTENER, "closed"),
    steps.Ready: _ready,
    steps.TimerDue: _timer_due,
    steps.Stopping: lambda step: Line("loop", "stopping", "what has arrived is answered"),
    steps.Opened: _opened,
    steps.Received: _received,
    steps.Peeked: lambda step: Line(step.client, "peeked", "more waits in the kernel"),
    steps.InputEnded: lambda step: Line(step.client, "received", "the end of input"),
    steps.Dropped: _dropped,
    steps.Put: _put,
    steps.Committed: _committed,
    steps.Settled: _settled,
    steps.Refused: lambda step: Line("store", "refused", str(step.refusal)),
    steps.Found: _found,
    steps.FoundAll: lambda step: Line("store", "found", "every key"),
    steps.Answered: _answered,
    steps.Queued: _queued,
    steps.Waiting: lambda step: Line(step.client, "waiting", "for what becomes of its puts"),
    steps.Watched: _watched,
    steps.Sent: _sent,
    steps.Interest: _interest,
    steps.Shut: lambda step: Line(step.client, "shut", "no more will be sent"),
    steps.Closed: _closed,
}


def _row(point: Point) -> bytes:
    return f"{point.key} {point.value!r} {point.timestamp}\n".encode()


def _address(address: Tuple[Any, ...]) -> str:
    return say_address(address)


def _bytes(count: int) -> str:
    return _count(count, "byte")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
