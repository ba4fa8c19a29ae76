"""A recording: after each step of a session, where every byte is and what is stored.

Owns the lanes that bytes travel through: the client, the kernel, the read buffer, the store, the
write buffer, and the kernel again. Does not know the script of the session, nor how it is shown.
"""

from typing import Any, Dict, List, Set

from metricsd.walkthrough import acts
from metricsd.walkthrough.acts import Act
from metricsd.walkthrough.captions import caption
from metricsd.walkthrough.sources import source
from metricsd.watch import Step, steps, trace_line

# Bytes of what is in a lane that are kept in a frame, beside the number of all.
SHOWN_BYTES = 160

Frame = Dict[str, Any]  # what json.dumps takes


class Lanes:
    """Where the bytes of one client are."""

    def __init__(self, name: str, about: str) -> None:
        self.name = name
        self.about = about
        self.interest = ""  # of the server in this client: listening, waiting, talking or closed
        self.client = "connected"
        self.inbound = b""  # in the kernel, on the way to the server
        self.input = b""  # in the read buffer
        self.output = b""  # in the write buffer
        self.outbound = b""  # in the kernel, on the way to the client
        self.received = b""  # what the client has read last

    def follow(self, step: Step) -> None:
        """Move the bytes as a step of this client did."""
        if isinstance(step, steps.Received):
            self.inbound = self.inbound[len(step.data) :]
            self.input += step.data
        elif isinstance(step, steps.Answered):
            self.input = step.input_left
        elif isinstance(step, steps.Queued):
            self.output += step.data
            self.interest = "listening" if self.interest == "waiting" else self.interest
        elif isinstance(step, steps.Sent):
            self.output = self.output[len(step.data) :]
            self.outbound += step.data
        elif isinstance(step, steps.Interest):
            self.interest = "talking" if step.talking else "listening"
        elif isinstance(step, steps.Waiting):
            self.interest = "waiting"
        elif isinstance(step, steps.Opened):
            self.interest = "listening"
        elif isinstance(step, (steps.Dropped, steps.Closed)):
            self.input = b""
            self.interest = "closed" if isinstance(step, steps.Closed) else self.interest

    def act(self, act: Act) -> None:
        """Move the bytes as an act of this client did."""
        if isinstance(act, acts.Sends):
            self.inbound += act.data
        elif isinstance(act, acts.Reads):
            self.outbound = b""
            self.received = act.data
        elif isinstance(act, acts.Ends):
            self.client = "sends no more"
        elif isinstance(act, acts.Leaves):
            self.client = "gone"

    def frame(self) -> Frame:
        """The lanes as they are now."""
        frame: Frame = {"name": self.name, "about": self.about}
        frame.update(interest=self.interest, client=self.client)
        for lane in ("inbound", "input", "output", "outbound", "received"):
            frame[lane] = _shown(getattr(self, lane))
        return frame


class Points:
    """What is stored, and what has been taken and is not stored yet."""

    def __init__(self) -> None:
        self._stored: Dict[str, Dict[int, float]] = {}
        self.open: List[steps.Point] = []

    def follow(self, step: Step) -> None:
        """Store points as the store did."""
        if isinstance(step, steps.Put) and step.stored:
            self._store(step.points)
        elif isinstance(step, steps.Put):
            self.open += step.points
        elif isinstance(step, steps.Settled):
            if step.refusal is None:
                self._store(self.open)
            self.open = []

    def frame(self) -> Frame:
        """The series and the points that wait, as they are now."""
        series = [
            [key, len(points), f"{points[max(points)]!r} at {max(points)}"]
            for key, points in self._stored.items()
        ]
        return {"series": series, "open": len(self.open)}

    def _store(self, points: Any) -> None:
        for key, value, timestamp in points:
            self._stored.setdefault(key, {})[timestamp] = value


class Recording:
    """Frames, one for each step of the server that it is told and each act of a client."""

    def __init__(self) -> None:
        self.scenes: List[str] = []
        self.frames: List[Frame] = []
        self.sources: Dict[str, str] = {}  # the functions that the frames name
        self.clients: Dict[str, Lanes] = {}
        self.muted = False  # steps are followed, but make no frames
        self._points = Points()
        self._turn = 0  # of the last step
        self._skipped = False  # steps were muted since the last frame
        self._texts: Set[str] = set()  # that have been said
        self._read: List[str] = []  # clients whose input has not been run, the last one last
        self._open: List[str] = []  # clients whose puts are to be settled

    def scene(self, title: str) -> None:
        """Begin a scene: the frames that follow belong to it."""
        self.scenes.append(title)

    def restart(self) -> None:
        """A server begins anew: nobody is connected, and nothing waits for the disk."""
        for happenings in (self.clients, self._read, self._open, self._points.open):
            happenings.clear()

    def act(self, act: Act) -> None:
        """Note what a client has done, or what happens between two turns of the loop."""
        name = getattr(act, "client", "")
        if name:
            self.clients[name].act(act)
        self._add(act, "wait", [name] if name else list(self._open), trace="")

    def __call__(self, step: Step) -> None:
        """Follow a step of the server."""
        first_of_turn = step.at.turn != self._turn or not self.frames
        self._turn = step.at.turn
        lit = self._lit(step)
        self._points.follow(step)
        name = getattr(step, "client", "")
        if name in self.clients:
            self.clients[name].follow(step)
        self._add(step, step.at.phase.value, lit, trace_line(step, first_of_turn))

    def _lit(self, step: Step) -> List[str]:
        """The clients that a step is about; and note whose input is run, and whose puts wait."""
        name = getattr(step, "client", "")
        if name:
            if isinstance(step, steps.Received):
                self._read.append(name)
            elif isinstance(step, steps.Answered) and name in self._read:
                self._read.remove(name)
            return [name]
        if isinstance(step, steps.Ready):
            names = [ready.who for ready in step.sockets]
            if steps.LISTENER in names:
                return list(self.clients)[-1:]  # who came last
            return list(self._open) if steps.WAKER in names else names
        if isinstance(step, steps.Put):
            joint = step.at.phase is steps.Phase.COMMIT
            whose = list(self._read) if joint else self._read[-1:]
            self._open += [] if step.stored else whose
            return whose
        if isinstance(step, steps.Committed):
            return list(self._open)
        if isinstance(step, steps.Settled):
            settled, self._open = self._open, []
            return settled
        return self._read[-1:] if isinstance(step, (steps.Found, steps.FoundAll)) else []

    def _add(self, happening: Any, phase: str, lit: List[str], trace: str) -> None:
        if self.muted:
            self._skipped = True
            return
        said = caption(happening)
        text = said.again if said.text in self._texts else said.text
        self._texts.add(said.text)
        self.sources[said.code] = source(said.code)
        self.frames.append(
            {
                "scene": len(self.scenes) - 1,
                "turn": self._turn,
                "trace": trace,
                "skipped": self._skipped,
                "phase": phase,
                "lit": list(dict.fromkeys(lit)),
                "path": said.path,
                "title": said.title,
                "text": text,
                "code": said.code,
                "spot": said.spot,
                "data": _shown(said.data),
                "clients": [client.frame() for client in self.clients.values()],
                "store": self._points.frame(),
                "kind": type(happening).__name__,
            }
        )
        self._skipped = False


def _shown(data: bytes) -> List[Any]:
    """How many bytes, and the first of them as text."""
    return [len(data), data[:SHOWN_BYTES].decode("utf-8", "replace")]
