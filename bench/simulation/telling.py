"""Telling a run: as a trace on a stream, or as a page of the walkthrough.

Owns how what happens outside of the server looks among the server's own steps. Does not know why it
happens.
"""

from typing import Any, Dict, TextIO

from metricsd.walkthrough import acts
from metricsd.walkthrough.recording import Lanes, Recording
from metricsd.watch import Trace, observed
from simulation.world import Teller

SILENT = (
    "turn",
    "work",
    "not ready",
    "connect",
    "ask",
    "push",
    "read",
    "bulk",
    "crowd",
    "leave",
    "end",
    "stop",
)
FRAMES = 500  # of a page at most; more make it large and slow


class Traced(Teller):
    """Writes each step of the server, as --trace does, and what happens between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def parts(self) -> Dict[str, Any]:
        """Parts that tell what they do."""
        return observed(Trace(self._stream))

    def act(self, kind: str, client: str = "", data: bytes = b"") -> None:
        """Write a line."""
        if client or kind not in SILENT:
            size = f" {len(data)} bytes: {data[:40]!r}" if data else ""
            self._stream.write(f"          -- {client or 'the world:'} {kind}{size}\n")


ACTS: Dict[str, Any] = {"connects": acts.Connects, "ends": acts.Ends, "leaves": acts.Leaves}
ACTS_WITH_DATA: Dict[str, Any] = {"sends": acts.Sends, "reads": acts.Reads}


class Recorded(Teller):
    """Makes frames of a page, one for each step and act."""

    def __init__(self) -> None:
        self.recording = Recording()
        self.recording.scene("The server starts")

    def parts(self) -> Dict[str, Any]:
        """Parts that tell the recording what they do."""
        self.recording.clients.clear()
        return observed(self._follow)

    def act(self, kind: str, client: str = "", data: bytes = b"") -> None:
        """Make a frame, where there is a caption for it; else, begin a scene."""
        recording = self.recording
        recording.muted = len(recording.frames) >= FRAMES
        if not client and kind not in SILENT and not recording.muted:
            recording.scenes[-1:] = (
                [kind] if self._is_scene_empty() else [recording.scenes[-1], kind]
            )
        if kind == "connects":
            for name, lanes in list(recording.clients.items()):
                if lanes.interest == "closed":
                    del recording.clients[name]
            recording.clients[client] = Lanes(client, "")
        if client not in recording.clients:
            return
        if kind in ACTS:
            recording.act(ACTS[kind](client))
        elif kind in ACTS_WITH_DATA:
            recording.act(ACTS_WITH_DATA[kind](client, data))

    def _is_scene_empty(self) -> bool:
        frames, scenes = self.recording.frames, self.recording.scenes
        return not frames or frames[-1]["scene"] < len(scenes) - 1

    def _follow(self, step: Any) -> None:
        self.recording.muted = len(self.recording.frames) >= FRAMES
        self.recording(step)
