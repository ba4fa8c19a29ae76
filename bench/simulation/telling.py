"""Telling a run: as a trace on a stream, or as a page of the walkthrough.

Owns how what happens outside of the server looks among the server's own steps. Does not know why it
happens.
"""

from typing import Any, Dict, NamedTuple, TextIO

from metricsd.loop import Connection, Reactor
from metricsd.walkthrough import acts
from metricsd.walkthrough.captions import CAPTIONS, RECEIVE, SELECT, Caption
from metricsd.walkthrough.recording import Lanes, Recording
from metricsd.watch import Trace, observed
from metricsd.watch.steps import TimerDue

# What the world does, in words; what is not here is told by what clients and the server do.
TOLD = {
    "time": "Time passes. It passes only when the script says so.",
    "not ready": "A client's socket will seem to be ready once, and not be.",
    "kill": "Soon the process ends, as after SIGKILL: after a few more system calls.",
    "power cut": "Soon the power fails, and with it goes what has not been synced.",
    "disk fails": "The disk will fail to sync.",
    "descriptors": "There is no descriptor left for a new client, or there is one again.",
    "not watched": "The selector will refuse the next socket.",
    "not writable": "A client's socket will not take what is sent to it, once.",
    "drop": "A key is dropped with all its points.",
    "gone": "A client will be gone before it is accepted.",
    "no select": "The next select will fail.",
    "the process is gone": "It is started again on the files that are left.",
    "every promise kept": "The server has stopped, with all answered that had arrived.",
}
FRAMES = 500  # of a page at most; more make it large and slow
BROKEN = "a promise is broken"


class Teller:
    """Whom to tell what happens; this one tells nobody."""

    def parts(self) -> Dict[str, Any]:
        """What a server is made of, beside what is handed in."""
        return {"reactor": Reactor, "connection": Connection}

    def act(self, kind: str, client: str = "", data: bytes = b"") -> None:
        """Something happens outside of the server."""


NOBODY = Teller()


class Traced(Teller):
    """Writes each step of the server, as --trace does, and what happens between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def parts(self) -> Dict[str, Any]:
        """Parts that tell what they do."""
        return observed(Trace(self._stream))

    def act(self, kind: str, client: str = "", data: bytes = b"") -> None:
        """Write a line."""
        if client or kind in TOLD:
            size = f" {len(data)} bytes: {data[:40]!r}" if data else ""
            self._stream.write(f"          -- {client or 'the world:'} {kind}{size}\n")


class Happens(NamedTuple):
    """Something happens that no client does."""

    kind: str
    text: str


def _happens(act: Happens) -> Caption:
    place = RECEIVE if act.kind == "not ready" else SELECT
    return Caption((), act.kind[0].upper() + act.kind[1:], act.text, act.text, place)


CAPTIONS[Happens] = _happens

ACTS: Dict[str, Any] = {
    "connects": lambda client, _: acts.Connects(client), "sends": acts.Sends, "reads": acts.Reads,
}  # fmt: skip


class Recorded(Teller):
    """Makes frames of a page, one for each step and act."""

    def __init__(self, title: str) -> None:
        self.recording = Recording()
        self.recording.scene(title)
        self._last: Any = None  # what kind of step came last

    def parts(self) -> Dict[str, Any]:
        """Parts that tell the recording what they do."""
        self.recording.restart()
        return observed(self._follow)

    def act(self, kind: str, client: str = "", data: bytes = b"") -> None:
        """Make a frame of what has a caption; what the world does begins a scene."""
        recording = self.recording
        recording.muted = len(recording.frames) >= FRAMES
        if kind in TOLD and not recording.muted:
            recording.scene(kind)
            recording.act(Happens(kind, TOLD[kind]))  # type: ignore[arg-type]
        if kind == "connects":
            recording.clients[client] = Lanes(client, "")
        if client in recording.clients:
            recording.act(ACTS[kind](client, data))

    def end(self, broken: str) -> None:
        """Make a last frame, of what has come of the run."""
        self.recording.muted = False
        kind = BROKEN if broken else "every promise kept"
        self.recording.scene(kind)
        text = broken[:1].upper() + broken[1:] + "." if broken else TOLD[kind]
        self.recording.act(Happens(kind, text))  # type: ignore[arg-type]

    def _follow(self, step: Any) -> None:
        recording = self.recording
        again = isinstance(step, TimerDue) and self._last is TimerDue
        self._last = type(step)
        recording.muted = again or len(recording.frames) >= FRAMES
        recording(step)
