"""The play: several clients of a real server in this process, on real sockets.

Owns the script. The loop takes a turn when the script says so, and so the steps come in the same
order each time. Does not know how a scene looks, nor what is said about it.
"""

import contextlib
import socket
from typing import Any, Callable, List, Tuple

from metricsd.server import Parts, Server
from metricsd.store import Memory, StoreError
from metricsd.walkthrough import acts
from metricsd.walkthrough.disk import Disk
from metricsd.walkthrough.recording import Lanes, Recording
from metricsd.watch import observed

SECONDS = 10.0  # what takes longer will not come

# The key of a long series. The reply to a get of it is made in one piece, and is more than the
# kernel takes for a client that does not read and has a small receive buffer.
LONG_KEY = "room-17.north-wall.temperature"
LONG_POINTS = 1600
SMALL_BUFFER = 4096

START = 1503319740  # the first timestamp


def record() -> Recording:
    """Play the session and return what was recorded."""
    recording = Recording()
    recording.scene("A put")
    with contextlib.ExitStack() as sockets:
        server, disk = _server_and_disk(recording)
        sockets.enter_context(server)
        Play(server, disk, recording, sockets).run()
        recording.muted = True  # the server's own end is not part of the session
    return recording


def _server_and_disk(recording: Recording) -> Tuple[Server, Disk]:
    """Make a server that tells the recording its steps, and the disk that its store seems to be."""
    parts = observed(recording)
    make_reactor, observe_store = parts["reactor"], parts["around_store"]
    reactors: List[Any] = []
    disks: List[Disk] = []

    def reactor(clock: Callable[[], float]) -> Any:
        reactors.append(make_reactor(clock))
        return reactors[0]

    def around_store(memory: Memory) -> Any:
        disks.append(Disk(memory, reactors[0].post))
        return observe_store(disks[0])

    parts.update(reactor=reactor, around_store=around_store)
    return Server("127.0.0.1", 0, parts=Parts(**parts)), disks[0]


class ScriptedClient:
    """A client, each of whose acts is recorded."""

    def __init__(self, number: int, about: str, server: Server, recording: Recording) -> None:
        self.name = f"c{number}"
        self.lanes = Lanes(self.name, about)
        self.socket = socket.socket()
        self.socket.settimeout(SECONDS)
        self._server = server
        self._recording = recording
        recording.clients[self.name] = self.lanes

    def connect(self) -> None:
        """Connect, and be accepted."""
        self.socket.connect(self._server.address)
        self._recording.act(acts.Connects(self.name))
        self._server.turn(SECONDS)

    def send(self, data: bytes) -> None:
        """Send; the server comes to it in a later turn."""
        self.socket.sendall(data)
        self._recording.act(acts.Sends(self.name, data))

    def read(self) -> None:
        """Read all that the server has sent so far."""
        data = self.lanes.outbound
        left = len(data)
        while left:
            left -= len(self.socket.recv(left))
        if data:
            self._recording.act(acts.Reads(self.name, data))

    def ask(self, data: bytes) -> None:
        """Send, let the loop take a turn, and read."""
        self.send(data)
        self._server.turn(SECONDS)
        self.read()

    def end(self) -> None:
        """Half-close."""
        self.socket.shutdown(socket.SHUT_WR)
        self._recording.act(acts.Ends(self.name))

    def leave(self) -> None:
        """Close."""
        self.socket.close()
        self._recording.act(acts.Leaves(self.name))


class Play:
    """The whole session, scene by scene."""

    def __init__(
        self, server: Server, disk: Disk, recording: Recording, sockets: contextlib.ExitStack
    ) -> None:
        self._server = server
        self._disk = disk
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
        self._disk_writes(reader, reporter)
        self._disk_fails(reader, reporter)
        self._line_is_missing(reader, reporter)
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

    def _disk_writes(self, reader: ScriptedClient, reporter: ScriptedClient) -> None:
        self._recording.scene("A put that waits for a disk")
        self._disk.slow = True
        self._recording.act(acts.DiskIsUsed())
        reporter.send(b"put memory 43 %d\n" % (START + 15))
        self._turn()
        reader.ask(b"get memory\n")
        self._recording.act(acts.DiskHasWritten())
        self._disk.flush()
        self._turn()
        reporter.read()

    def _disk_fails(self, reader: ScriptedClient, reporter: ScriptedClient) -> None:
        self._recording.scene("Two puts that the disk fails")
        reporter.send(b"put memory 44 %d\n" % (START + 30))
        reader.send(b"put note 1 %d\n" % START)
        self._turn()
        self._recording.act(acts.DiskHasFailed())
        self._disk.flush(StoreError("not stored"))
        self._turn()
        reporter.read()
        reader.read()

    def _line_is_missing(self, reader: ScriptedClient, reporter: ScriptedClient) -> None:
        self._recording.scene("A line is taken out")
        self._recording.act(acts.LineIsTakenOut())
        waker: Any = self._server._reactor._waker
        waker.wake = lambda: None
        reporter.send(b"put memory 45 %d\n" % (START + 45))
        self._turn()
        self._disk.flush()
        self._recording.act(acts.DiskIsNotHeard(reporter.name))
        reader.ask(b"get memory\n")
        self._recording.scene("A run that can be repeated")
        self._recording.act(acts.NobodyNotices(reporter.name))
        del waker.wake
        self._recording.act(acts.LineIsBack())
        waker.wake()
        self._turn()
        reporter.read()
        self._disk.slow = False

    def _large_replies(self, slow: ScriptedClient, other: ScriptedClient) -> None:
        self._recording.scene("A reply larger than the socket")
        self._fill_quietly(other)
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        slow.connect()
        slow.send(b"get %s\n" % LONG_KEY.encode())
        self._turn()
        self._recording.act(acts.Sleeps(slow.name))
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
        self._recording.act(acts.Fills(client.name, LONG_POINTS, LONG_KEY))

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
