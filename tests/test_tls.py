"""TLS: the protections of plain sessions hold inside it, and handshakes are bounded."""

import contextlib
import gc
import random
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from metricsd import Client, ClientError, ListenError, Server, tls
from metricsd.attachments import Attachments
from metricsd.loop import Connection, announce
from metricsd.protocol import Session
from metricsd.server import Parts
from tests.certificates import client_context, folder, needs_openssl, server_options
from tests.conftest import running
from tests.conversation import Conversation
from tests.model import Model
from tests.script import lines, pieces
from tests.test_command_line import ROOT
from tests.test_session import SEED_DIALOGUE

pytestmark = needs_openssl

OK = b"ok\n\n"
WRONG = b"error\nwrong command\n\n"
VERSIONS = ["1.2", "1.3"]
MOST_BYTES = 30000  # of memory for a connection; it was 18,500 when this was written


class InMemory:
    """A TLS client without a socket: what it would send is told, and cut as the test likes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.shaken = self.ended = False  # ended: the server has said goodbye

    def shake(self) -> bytes:
        """Go on with the handshake; what is to be sent. Once ``shaken``, it is done."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.shaken = True
        return self.outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        while data:
            data = data[self.tls.write(data) :]
        return self.outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """What it hears."""
        self.incoming.write(data)
        heard = b""
        try:
            while not self.ended:
                piece = self.tls.read(1 << 20)
                heard += piece
                self.ended = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return heard

    def goodbye(self) -> bytes:
        with contextlib.suppress(ssl.SSLError, OSError):
            self.tls.unwrap()
        return self.outgoing.read()


@contextlib.contextmanager
def shaken(version: str = "1.3", **options: Any) -> Iterator[Tuple[Server, Any, InMemory]]:
    """A server that the test turns, a socket to it, and a client whose hands are shaken."""
    with Server("127.0.0.1", 0, **server_options(), **options) as server:
        with Conversation(server.address) as plain:
            client = InMemory(client_context(newest=version))
            while True:
                plain.socket.sendall(client.shake())
                if client.shaken:
                    break
                client.incoming.write(heard(server, plain.socket, 1))
            while not all(found.session._shaken for found in server._connections):  # type: ignore[attr-defined]
                server.turn(0.01)
            yield server, plain.socket, client


def heard(server: Server, sock: Any, at_least: int) -> bytes:
    """Turn the server until so many bytes have come, or its end."""
    sock.settimeout(0)
    got = b""
    deadline = time.monotonic() + 10
    while len(got) < at_least:
        assert time.monotonic() < deadline
        server.turn(0.01)
        with contextlib.suppress(BlockingIOError):
            data = sock.recv(1 << 20)
            got += data
            if not data:
                break
    return got


def answers(server: Server, sock: Any, client: InMemory, expected: int) -> bytes:
    """Turn the server until the client has heard so many bytes."""
    said = b""
    while len(said) < expected:
        data = heard(server, sock, 1)
        if not data:
            break
        said += client.decrypt(data)
    return said


@pytest.mark.parametrize("version", VERSIONS)
def test_the_seed_dialogue(version: str) -> None:
    context = client_context(newest=version)
    with running("127.0.0.1", 0, **server_options()) as server:
        with Conversation(server.address, tls=context) as client:
            for request, reply in SEED_DIALOGUE:
                assert client.ask(request) == reply
            assert client.socket.version() == f"TLSv{version}" or version == "1.3"


@pytest.mark.parametrize("version", VERSIONS)
def test_pieces_at_every_byte(version: str) -> None:
    """Handshake and requests, cut after each byte."""
    requests = b"put a 1 1\nget a\n\xff\nget wrong command test\n\nget b\n"
    expected = OK + b"ok\na 1.0 1\n\n" + WRONG * 2 + OK
    with Server("127.0.0.1", 0, **server_options()) as server:
        with Conversation(server.address) as plain:
            client = InMemory(client_context(newest=version))
            got = b""
            to_send = client.shake()
            asked = False
            while len(got) < len(expected):
                for at in range(len(to_send)):
                    plain.socket.sendall(to_send[at : at + 1])
                    server.turn(0.001)
                to_send = b""
                data = heard(server, plain.socket, 1) if not asked or len(got) == 0 else b""
                if asked:
                    got += client.decrypt(data or heard(server, plain.socket, 1))
                else:
                    client.incoming.write(data)
                    to_send = client.shake()
                    with contextlib.suppress(ssl.SSLError, ValueError):
                        to_send += client.encrypt(requests)
                        asked = True
            assert got == expected


@pytest.mark.parametrize("longest", [3, 1000, 100000])
def test_mixed_script_in_pieces(longest: int) -> None:
    dice = random.Random(longest)
    data = b"".join(line + b"\n" for line in lines(longest, 500 if longest > 3 else 100))
    with running("127.0.0.1", 0, **server_options()) as server:
        with Conversation(server.address, tls=client_context()) as client:
            expected = Model().stream(data)
            client.socket.settimeout(0)
            got, left = b"", list(pieces(data, dice, longest))
            deadline = time.monotonic() + 20
            while len(got) < len(expected):
                assert time.monotonic() < deadline
                # Without waiting, this thread would keep Python's lock from the server's.
                select.select([client.socket], [client.socket] if left else [], [], 1)
                if left:
                    with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                        left[0] = left[0][client.socket.send(left[0]) :]
                        left = left if left[0] else left[1:]
                with contextlib.suppress(ssl.SSLWantReadError):
                    got += client.socket.recv(1 << 20)
            assert got == expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("polite", [True, False], ids=["close_notify", "bare end"])
def test_half_close_is_answered_then_closed(version: str, polite: bool) -> None:
    with shaken(version) as (server, sock, client):
        sock.setblocking(True)
        sock.sendall(client.encrypt(b"put a 1 1\nget a\nput a 1 15"))
        if polite:
            sock.sendall(client.goodbye())
        else:
            sock.shutdown(socket.SHUT_WR)
        got = answers(server, sock, client, 10**6)  # up to the end
        assert got == OK + b"ok\na 1.0 1\n\n"
        assert client.ended
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        while server._connections:
            server.turn(0.1)


def test_a_reply_larger_than_every_buffer_after_a_half_close() -> None:
    with shaken() as (server, sock, client):
        puts = b"".join(b"put k 0.25 %d\n" % t for t in range(20000))
        for at in range(0, len(puts), 16000):
            sock.setblocking(True)
            sock.sendall(client.encrypt(puts[at : at + 16000]))
            server.turn(1)
        said = answers(server, sock, client, 20000 * len(OK))
        assert said == OK * 20000
        sock.setblocking(True)
        sock.sendall(client.encrypt(b"get k\n" * 3) + client.goodbye())
        rows = b"".join(b"k 0.25 %d\n" % t for t in range(20000))
        expected = (b"ok\n" + rows + b"\n") * 3
        assert answers(server, sock, client, len(expected)) == expected


def test_a_client_that_does_not_read_is_slowed_down_and_the_others_are_not() -> None:
    with running("127.0.0.1", 0, **server_options()) as server:
        with Conversation(server.address, tls=client_context()) as witness:
            witness.ask(b"".join(b"put k 0.25 %d\n" % t for t in range(500)), 500)
            greedy = Conversation(server.address, 4096, tls=client_context())
            with greedy:
                greedy.socket.settimeout(0.3)
                sent = 0
                with contextlib.suppress(socket.timeout, ssl.SSLError):
                    while sent < 50 * 1024 * 1024:
                        sent += greedy.socket.send(b"get k\n" * 1000)
                assert sent < 50 * 1024 * 1024  # the server has stopped reading
                assert witness.ask(b"get nobody\n") == OK
                for connection in server._connections:
                    session: Any = connection.session
                    kept = len(connection._outbox) + len(session._plain)
                    assert kept + session._incoming.pending < 200 * 1024


@pytest.mark.parametrize("seed", range(40))
def test_rubbish_ends_nobody_but_its_sender(seed: int) -> None:
    """A handshake or a session of bytes that are flipped, cut, doubled or random."""
    dice = random.Random(seed)
    with Server("127.0.0.1", 0, **server_options()) as server:
        with Conversation(server.address) as plain, Conversation(server.address) as other:
            client = InMemory(client_context())
            data = bytearray(client.shake() * dice.choice((1, 2)))
            for _ in range(dice.randrange(1, 20)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            if dice.random() < 0.3:
                data = bytearray(dice.randrange(256) for _ in range(dice.randrange(1, 40000)))
            del data[dice.randrange(1, len(data) + 1) :]
            with contextlib.suppress(OSError):
                for piece in pieces(bytes(data), dice, 4000):
                    plain.socket.sendall(piece)
                    server.turn(0.001)
                plain.no_more()
            good = InMemory(client_context())
            other.socket.sendall(good.shake())
            assert good.decrypt(heard(server, other.socket, 500)) == b""
            assert good.outgoing.pending or good.tls.version()


def test_plain_text_and_web_browsers_are_refused_with_their_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running("127.0.0.1", 0, **server_options()) as server:
        for said in (b"put a 1 1\n", b"GET / HTTP/1.1\r\n\r\n"):
            with Conversation(server.address) as client:
                client.socket.sendall(said)
                assert b"ok" not in client.rest()
        with Conversation(server.address, tls=client_context()) as client:
            assert client.ask(b"get *\n") == OK
    (line,) = [record.message for record in caplog.records if "failed" in record.message]
    assert line.startswith("TLS with <Connection ('127.0.0.1', ")  # the second one within a minute
    assert line.rpartition(": ")[2]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["", "stranger"])
def test_only_clients_of_the_authority_get_in(
    name: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running("127.0.0.1", 0, **server_options(clients=True)) as server:
        with pytest.raises(ClientError):
            context = client_context(name, version)
            with Client(*server.address, timeout=10, tls=context) as client:
                client.put("k", 1, 1)
        with Client(*server.address, timeout=10, tls=client_context("agent", version)) as client:
            assert client.get("*") == {}
    (line,) = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
    assert "certificate" in line.lower().replace("_", " ")


def test_too_old_a_version_is_refused() -> None:
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.options |= ssl.OP_NO_TLSv1_2 | getattr(ssl, "OP_NO_TLSv1_3", 0)
        if hasattr(context, "minimum_version"):
            context.minimum_version = ssl.TLSVersion.TLSv1_1
    with running("127.0.0.1", 0, **server_options()) as server:
        with pytest.raises(OSError):
            Conversation(server.address, tls=context)


def test_handshakes_are_few_a_turn_and_the_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tls, "SLICE_SECONDS", 60)
    steps: List[int] = []
    shake_hands = tls.TlsSession.shake_hands

    def counted(session: tls.TlsSession) -> None:
        steps.append(session._with._loop.turns)
        shake_hands(session)

    monkeypatch.setattr(tls.TlsSession, "shake_hands", counted)
    with shaken() as (server, sock, client), contextlib.ExitStack() as stack:
        del steps[:]
        waiting = [stack.enter_context(Conversation(server.address)) for _ in range(30)]
        hello = InMemory(client_context()).shake()
        for each in waiting:
            each.socket.sendall(hello)
        for _ in range(15):
            sock.setblocking(True)
            sock.sendall(client.encrypt(b"get k\n"))
            assert answers(server, sock, client, 4) == OK
        while len(steps) < 30:
            server.turn(1)
        assert len(steps) == 30
        assert max(steps.count(turn) for turn in steps) == tls.HANDSHAKES_A_TURN


def test_slow_handshakes_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "SLICE_SECONDS", -1.0)
    with Server("127.0.0.1", 0, **server_options()) as server, contextlib.ExitStack() as stack:
        hello = InMemory(client_context()).shake()
        for _ in range(8):
            stack.enter_context(Conversation(server.address)).socket.sendall(hello)
        seen: List[int] = []
        while len(seen) < 9:
            server.turn(1)
            begun = len([c for c in server._connections if c.session._incoming.pending])  # type: ignore[attr-defined]
            if seen or begun == 8:  # all have come
                seen.append(begun)
        assert seen == list(range(8, -1, -1))


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01", b"hello"], ids=["silent", "half", "whole"])
def test_who_does_not_shake_hands_is_closed_in_time(start: bytes) -> None:
    now = [0.0]
    if start == b"hello":
        start = InMemory(client_context()).shake()
    options = server_options()
    with Server("127.0.0.1", 0, clock=lambda: now[0], **options) as server:
        with Conversation(server.address) as client:
            client.socket.sendall(start)
            while not server._connections:
                server.turn(0.1)
            for _ in range(3):
                server.turn(0)
            now[0] += tls.HANDSHAKE_SECONDS - 1.5
            for _ in range(3):
                server.turn(0)
            assert server._connections
            now[0] += 3
            for _ in range(3):
                server.turn(0)
            assert not server._connections


def test_who_has_shaken_hands_may_take_its_time() -> None:
    with shaken() as (server, sock, client):
        (connection,) = server._connections
        assert connection.session.deadline is None
        assert connection.idle
        sock.setblocking(True)
        sock.sendall(client.encrypt(b"get "))
        server.turn(1)
        assert not connection.idle


def test_certificates_are_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "metricsd")
    paths = {name: tmp_path / name for name in ("cert", "key")}

    def install(name: str) -> None:
        paths["cert"].write_bytes((folder() / f"{name}.pem").read_bytes())
        paths["key"].write_bytes((folder() / f"{name}.key").read_bytes())

    def shown(server: Server) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with Conversation(server.address, tls=context) as client:
            assert client.ask(b"get k\n") == OK
            return bytes(client.socket.getpeercert(binary_form=True))

    install("server")
    options: Dict[str, Any] = {"tls_cert": str(paths["cert"]), "tls_key": str(paths["key"])}
    parts, reloads = _with_reload()
    with running("127.0.0.1", 0, parts=parts, **options) as server:
        before = shown(server)
        install("agent")
        assert shown(server) == before
        reloads()
        assert shown(server) != before
        paths["key"].write_text("no key", encoding="ascii")
        now = shown(server)
        reloads()
        assert shown(server) == now
    said = [record.getMessage() for record in caplog.records if "certificate" in str(record.msg)]
    assert said[0] == "the certificate has been read again"
    assert said[1].startswith("the certificate stays as it was: no certificate and key in PEM in ")
    assert len(said) == 2


def _with_reload() -> Tuple[Any, Callable[[], None]]:
    """Parts of a server, and what its SIGHUP calls."""
    made: List[Attachments] = []

    def make(*arguments: Any) -> Attachments:
        made.append(Attachments(*arguments))
        return made[0]

    def reload() -> None:
        for hook in made[0].on_reload:
            hook()

    return Parts(attachments=make), reload


@pytest.mark.parametrize(
    "given, says",
    [
        ({"tls_cert": "/no/such"}, "cannot read /no/such: No such file"),
        ({"tls_cert": __file__}, "no certificate and key in PEM in "),
        ({"tls_key": "agent.key"}, "no certificate and key in PEM in .*server.pem and .*agent.key"),
        ({"tls_clients": __file__}, "no certificate in PEM in "),
        ({"tls_key": "locked.key"}, "the key in .* has a password; give one that has none"),
    ],
)
def test_what_can_not_be_used_is_one_clear_line(given: Any, says: str) -> None:
    if given.get("tls_key") == "locked.key":
        command = "openssl ec -in server.key -aes128 -passout pass:secret -out locked.key"
        subprocess.check_call(command.split(), cwd=str(folder()), stderr=subprocess.DEVNULL)
    given = {name: str(folder() / value) for name, value in given.items()}
    with pytest.raises(ListenError, match="^cannot listen with TLS: .*" + says):
        Server("127.0.0.1", 0, **dict(server_options(), **given))


def test_the_unix_socket_stays_plain(quick_path: Path) -> None:
    path = str(quick_path / "x.sock")
    with running("127.0.0.1", 0, unix=path, **server_options()) as server:
        with Conversation(path) as client, Conversation(
            server.address, tls=client_context()
        ) as other:
            assert client.ask(b"put a 1 1\n") == OK
            assert other.ask(b"get a\n") == b"ok\na 1.0 1\n\n"


def test_http_is_inside_as_well() -> None:
    with running("127.0.0.1", 0, http=0, **server_options()) as server:
        address = server._listeners["http"].addresses[0]
        with Conversation(address, tls=client_context()) as client:
            client.socket.sendall(
                b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            assert client.rest().startswith(b"HTTP/1.1 200 ")
        with Conversation(server.address) as plain:
            plain.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert b"HTTP" not in plain.rest()


def test_a_client_with_many_puts_and_a_large_reply() -> None:
    with running("127.0.0.1", 0, **server_options()) as server:
        with Client(*server.address, timeout=20, tls=client_context()) as client:
            client.put_many(("k", t / 4, t) for t in range(30000))
            assert client.get("k") == {"k": [(t, t / 4) for t in range(30000)]}
            with pytest.raises(ClientError, match="wrong command"):
                client.put("k", "one", 1)
            client.put("k", 1, 1)
        with pytest.raises(ClientError, match="cannot connect"):
            Client(*server.address, timeout=10, tls=ssl.create_default_context())


def test_what_has_arrived_is_answered_when_it_stops() -> None:
    with shaken() as (server, sock, client):
        sock.setblocking(True)
        sock.sendall(client.encrypt(b"put k 1 1\nget k\nget "))
        (connection,) = server._connections
        assert select.select([connection._socket], [], [], 10)[0]
        server.stop()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        data = b""
        sock.settimeout(10)
        while True:
            piece = sock.recv(1 << 16)
            if not piece:
                break
            data += piece
        thread.join(10)
        assert client.decrypt(data) == OK + b"ok\nk 1.0 1\n\n"


def test_where_others_could_get_in_there_is_a_warning_unless_they_are_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for known in (False, True):
        caplog.clear()
        caplog.set_level("INFO", "metricsd")
        with Server("0.0.0.0", 0, **server_options(clients=known)) as server:
            announce(server._listeners.values())
        said = [record.getMessage() for record in caplog.records]
        assert said[0] == "listening on {}:{} with TLS".format(*server.address)
        assert any("no access control" in line for line in said) is not known


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the figure is from /proc")
def test_memory_of_a_connection() -> None:
    """OpenSSL gives the buffers of a connection back that has nothing under way."""
    words = [f"--{name.replace('_', '-')}={path}" for name, path in server_options().items()]
    with started_with_tls(*words) as (process, port), contextlib.ExitStack() as stack:
        sizes, context = [], client_context()
        for _ in range(2):
            for _ in range(150):
                client = Conversation(("127.0.0.1", port), tls=context)
                assert stack.enter_context(client).ask(b"put k 1 1\nget k\n", 2)
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            sizes.append(int(status.split("VmRSS:")[1].split()[0]) * 1024)
        assert (sizes[1] - sizes[0]) / 150 < MOST_BYTES


@contextlib.contextmanager
def started_with_tls(*words: str) -> Iterator[Tuple[Any, int]]:
    command = [sys.executable, "-m", "metricsd", "--port", "0", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=str(ROOT)) as process:
        assert process.stderr is not None
        try:
            yield process, int(process.stderr.readline().split(b" with TLS")[0].split(b":")[-1])
        finally:
            process.kill()


def test_closed_connections_leave_no_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    def there() -> int:
        kinds = (Connection, Session, tls.TlsSession)
        return sum(isinstance(found, kinds) for found in gc.get_objects())

    gc.collect()
    before = there()
    gc.disable()
    monkeypatch.setattr(tls.logger, "disabled", True)  # pytest keeps what is logged
    try:
        with Server("127.0.0.1", 0, **server_options()) as server:
            hello = InMemory(client_context()).shake()
            for start in (b"", hello, hello[:50], b"nonsense, and more of it"):
                client = Conversation(server.address)
                client.socket.sendall(start)
                while not server._connections:
                    server.turn(10)
                for _ in range(3):
                    server.turn(0.01)
                linger = struct.pack("ii", 1, 0)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.socket.close()
                while server._connections:
                    server.turn(10)
            server.turn(0)
            assert there() == before
    finally:
        gc.enable()
