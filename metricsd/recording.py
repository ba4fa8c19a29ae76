"""A recording: after each step of a session, where every byte is and what is stored.

Owns the lanes that bytes travel through: the client, the kernel, the read buffer, the store, the
write buffer, and the kernel again. Does not know the script of the session, nor how it is shown.
"""

from typing import Any, Dict, List

from metricsd.captions import CLIENT_TURN, caption
from metricsd.observer import Step
from metricsd.trace import trace_line

# Of what is in a lane so many bytes are kept in a frame, beside the number of all.
SHOWN_BYTES = 160

Frame = Dict[str, Any]  # what json.dumps takes


class Lanes:
    """Where the bytes of one client are."""

    def __init__(self, name: str, about: str) -> None:
        self.name = name
        self.about = about
        self.interest = ""  # of the server in this client: listening, talking or closed
        self.client = "connected"
        self.inbound = b""  # in the kernel, on the way to the server
        self.input = b""  # in the read buffer
        self.output = b""  # in the write buffer
        self.outbound = b""  # in the kernel, on the way to the client
        self.received = b""  # what the client has read last

    def follow(self, step: Step) -> None:
        """Move the bytes as a step of this client did."""
        if step.what == "received":
            self.inbound = self.inbound[len(step.data) :]
            self.input += step.data
        elif step.what == "answered":
            self.input = step.data
        elif step.what == "queued":
            self.output += step.data
        elif step.what == "sent":
            self.output = self.output[len(step.data) :]
            self.outbound += step.data
        elif step.what in ("listening", "talking"):
            self.interest = step.what
        elif step.what == "opened":
            self.interest = "listening"
        elif step.what in ("dropped", "closed"):
            self.input = b""
            self.interest = "closed" if step.what == "closed" else self.interest

    def frame(self) -> Frame:
        """The lanes as they are now."""
        frame: Frame = {"name": self.name, "about": self.about}
        frame.update(interest=self.interest, client=self.client)
        for lane in ("inbound", "input", "output", "outbound", "received"):
            frame[lane] = _shown(getattr(self, lane))
        return frame


class Recording:
    """Frames, one for each step of the server that it is told and each act of a client."""

    def __init__(self) -> None:
        self.scenes: List[str] = []
        self.frames: List[Frame] = []
        self.clients: Dict[str, Lanes] = {}
        self.muted = False  # steps are followed, but make no frames
        self._store: Dict[str, Dict[int, str]] = {}
        self._turn = -1  # of the last step
        self._reading = ""  # the client on whose behalf the store is asked

    def scene(self, title: str) -> None:
        """Begin a scene: the frames that follow belong to it."""
        self.scenes.append(title)

    def act(self, client: str, what: str, detail: str, data: bytes = b"") -> None:
        """Note what a client has done, or what happens between two turns of the loop."""
        self._add(Step(CLIENT_TURN, client, what, detail, data), trace="")

    def __call__(self, step: Step) -> None:
        """Follow a step of the server."""
        if step.who in self.clients:
            self.clients[step.who].follow(step)
            self._reading = step.who
        elif step.what == "put":
            for row in step.data.decode().splitlines():
                key, value, timestamp = row.split()
                self._store.setdefault(key, {})[int(timestamp)] = value
        first_of_turn = step.turn != self._turn
        self._turn = step.turn
        self._add(step, trace_line(step, first_of_turn))

    def _add(self, step: Step, trace: str) -> None:
        if self.muted:
            return
        frame: Frame = {"scene": len(self.scenes) - 1, "turn": self._turn, "trace": trace}
        frame.update(who=step.who, what=step.what, lit=self._lit(step), data=_shown(step.data))
        frame.update(caption(step)._asdict())
        frame["clients"] = [client.frame() for client in self.clients.values()]
        frame["store"] = [_series(key, points) for key, points in self._store.items()]
        self.frames.append(frame)

    def _lit(self, step: Step) -> List[str]:
        """The clients that a step is about."""
        if step.who == "store":
            return [self._reading]
        if step.what == "ready" and step.detail == "listener":
            return list(self.clients)[-1:]  # who came last
        return [name for name in self.clients if name in (step.who, *step.detail.split())]


def _shown(data: bytes) -> List[Any]:
    """How many bytes, and the first of them as text."""
    return [len(data), data[:SHOWN_BYTES].decode("utf-8", "replace")]


def _series(key: str, points: Dict[int, str]) -> List[Any]:
    newest = max(points)
    return [key, len(points), f"{points[newest]} at {newest}"]
