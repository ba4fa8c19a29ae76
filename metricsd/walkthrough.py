"""Writes a page that plays a session step by step: ``python3 -m metricsd.walkthrough OUT.html``.

Owns the script: several clients of a real server in this process, on real sockets. The loop takes a
turn when the script says so, and so the steps come in the same order each time. How they look is
the business of walkthrough.html.
"""

import argparse
import contextlib
import json
import socket
import sys
from pathlib import Path
from typing import List, Optional

from metricsd.recording import Lanes, Recording
from metricsd.server import Server

TEMPLATE = Path(__file__).resolve().parent / "walkthrough.html"
PLACE = "null; // here comes the recording"

SECONDS = 10.0  # what takes longer will not come

# The key of a long series. The reply to a get of it is made in one piece, and is more than the
# kernel takes for a client that does not read and has a small receive buffer.
LONG_KEY = "room-17.north-wall.temperature"
LONG_POINTS = 1600
SMALL_BUFFER = 4096

START = 1503319740  # the first timestamp


class ScriptedClient:
    """A client, each of whose acts is recorded."""

    def __init__(self, number: int, about: str, server: Server, recording: Recording) -> None:
        self.lanes = Lanes(f"c{number}", about)
        self.socket = socket.socket()
        self.socket.settimeout(SECONDS)
        self._server = server
        self._recording = recording
        recording.clients[self.lanes.name] = self.lanes

    def connect(self) -> None:
        """Connect, and be accepted."""
        self.socket.connect(self._server.address)
        self._note("connects")
        self._server.turn(SECONDS)

    def send(self, data: bytes) -> None:
        """Send; the server comes to it in a later turn."""
        self.socket.sendall(data)
        self.lanes.inbound += data
        self._note("sends", data)

    def read(self) -> None:
        """Read all that the server has sent so far."""
        data = self.lanes.outbound
        left = len(data)
        while left:
            left -= len(self.socket.recv(left))
        if data:
            self.lanes.outbound = b""
            self.lanes.received = data
            self._note("reads", data)

    def ask(self, data: bytes) -> None:
        """Send, let the loop take a turn, and read."""
        self.send(data)
        self._server.turn(SECONDS)
        self.read()

    def end(self) -> None:
        """Half-close."""
        self.socket.shutdown(socket.SHUT_WR)
        self.lanes.client = "sends no more"
        self._note("ends")

    def leave(self) -> None:
        """Close."""
        self.socket.close()
        self.lanes.client = "gone"
        self._note("leaves")

    def _note(self, what: str, data: bytes = b"") -> None:
        self._recording.act(self.lanes.name, what, f"{len(data):,} bytes", data)


class Play:
    """The whole session, scene by scene."""

    def __init__(self, server: Server, recording: Recording, sockets: contextlib.ExitStack) -> None:
        self._server = server
        self._recording = recording
        self._sockets = sockets

    def run(self) -> None:
        """Play all scenes."""
        reporter = self._client("reports what it measures")
        reporter.connect()
        reporter.ask(b"put cpu 12.5 %d\n" % START)
        self._batch_and_pieces(reporter)
        reader = self._client("somebody at a keyboard")
        self._mistake_and_company(reader, reporter)
        slow = self._client("asks for much and reads slowly")
        self._large_replies(slow, reporter)
        self._partings(reader, reporter)

    def _client(self, about: str) -> ScriptedClient:
        number = len(self._recording.clients) + 1
        client = ScriptedClient(number, about, self._server, self._recording)
        self._sockets.enter_context(client.socket)
        return client

    def _turn(self) -> None:
        self._server.turn(SECONDS)

    def _batch_and_pieces(self, client: ScriptedClient) -> None:
        self._recording.scene("Three puts at once")
        client.ask(b"".join(b"put cpu %d %d\n" % (n + 13, START + 15 * n) for n in (1, 2, 3)))
        self._recording.scene("A request cut in two")
        client.send(b"get c")
        self._turn()
        client.ask(b"pu\n")

    def _mistake_and_company(self, client: ScriptedClient, other: ScriptedClient) -> None:
        self._recording.scene("A mistake")
        client.connect()
        client.ask(b"got cpu\n")
        self._recording.scene("Two clients in one turn")
        other.send(b"put memory 42 %d\n" % START)
        client.send(b"get cpu\n")
        self._turn()
        other.read()
        client.read()

    def _large_replies(self, slow: ScriptedClient, other: ScriptedClient) -> None:
        self._recording.scene("A reply larger than the socket")
        self._fill_quietly(other)
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        slow.connect()
        slow.send(b"get %s\n" % LONG_KEY.encode())
        self._turn()
        self._recording.act("loop", "sleeps", slow.lanes.name)
        other.ask(b"get memory\n")
        self._read_all(slow)
        self._recording.scene("A reply that is pulled")
        slow.send(b"get *\n")
        self._turn()
        self._read_all(slow)

    def _fill_quietly(self, client: ScriptedClient) -> None:
        self._recording.muted = True
        for first in range(0, LONG_POINTS, 200):
            points = ((20 + n % 97 / 97, START + n) for n in range(first, first + 200))
            lines = (f"put {LONG_KEY} {value!r} {time}\n" for value, time in points)
            client.ask("".join(lines).encode())
        self._recording.muted = False
        self._recording.act(client.lanes.name, "fills", f"{LONG_POINTS:,} points of a long key")

    def _read_all(self, client: ScriptedClient) -> None:
        while client.lanes.interest == "talking":
            client.read()
            self._turn()
        client.read()

    def _partings(self, client: ScriptedClient, other: ScriptedClient) -> None:
        self._recording.scene("Half a goodbye")
        client.send(b"get memory\nput cpu 18 15")
        client.end()
        self._turn()
        client.read()
        self._turn()
        self._recording.scene("A whole one")
        other.leave()
        self._turn()


def record() -> Recording:
    """Play the session and return what was recorded."""
    recording = Recording()
    recording.scene("A put")
    with contextlib.ExitStack() as sockets, Server("127.0.0.1", 0, tell=recording) as server:
        Play(server, recording, sockets).run()
        recording.muted = True  # the server's own end is not part of the session
    return recording


def page(recording: Recording) -> str:
    """The page that plays a recording; it needs nothing else."""
    data = json.dumps({"scenes": recording.scenes, "frames": recording.frames}, sort_keys=True)
    before, after = TEMPLATE.read_text(encoding="utf-8").split(PLACE)
    return before + data.replace("<", "\\u003c") + ";" + after


def main(arguments: Optional[List[str]] = None) -> int:
    """Write the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m metricsd.walkthrough",
        description="Write a page that plays a session with the server, step by step.",
    )
    parser.add_argument("path", metavar="OUT.html", help="the file to write or replace")
    path = parser.parse_args(arguments).path
    try:
        Path(path).write_text(page(record()), encoding="utf-8")
    except OSError as error:
        print(f"cannot write {path}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
