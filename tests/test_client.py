"""The client against the real server, and against servers that fail it."""

import contextlib
import math
import os
import signal
import socket
import threading
import time
from decimal import Decimal
from fractions import Fraction
from typing import Callable, ClassVar, Iterator, List, Tuple

import pytest

from metricsd import Client, ClientError, Server
from tests.conftest import running
from tests.conversation import free_port

Script = Callable[[socket.socket], None]


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(*server.address, timeout=10) as client:
        yield client


@contextlib.contextmanager
def failing(*scripts: Script, timeout: float = 10) -> Iterator[Client]:
    """A client of a server that does what the script says with the one connection it accepts."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(ConnectionError):  # the client may be gone first
                for script in scripts:
                    script(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            host, port = listening.getsockname()
            with Client(host, port, timeout) as client:
                yield client
        finally:
            thread.join(10)
        assert not thread.is_alive()


def replying(*replies: bytes) -> Script:
    """Answer each request in turn with these bytes, then close when the client does."""

    def script(connection: socket.socket) -> None:
        for reply in replies:
            connection.recv(65536)
            connection.sendall(reply)
        connection.recv(65536)

    return script


def closing(connection: socket.socket) -> None:
    connection.recv(65536)


class TestAgainstTheServer:
    def test_put_and_get(self, client: Client) -> None:
        client.put("cpu", 2.5, timestamp=2)
        client.put("cpu", 1, 1)
        client.put("mem", "3", "7")
        assert client.get("cpu") == {"cpu": [(1, 1.0), (2, 2.5)]}
        assert client.get("nobody") == {}
        assert client.get("*") == {"cpu": [(1, 1.0), (2, 2.5)], "mem": [(7, 3.0)]}

    def test_the_time_is_now_unless_it_is_given(self, client: Client) -> None:
        before = int(time.time())
        client.put("k", 1)
        after = int(time.time())
        client.put("zero", 1, timestamp=0)
        ((timestamp, _),) = client.get("k")["k"]
        assert before <= timestamp <= after
        assert client.get("zero") == {"zero": [(0, 1.0)]}

    def test_odd_values(self, client: Client) -> None:
        for timestamp, value in enumerate([float("inf"), -0.0, 5e-324, 1e308, 0.1]):
            client.put("ключ", value, timestamp)
        client.put("nan", float("nan"), 1)
        points = client.get("ключ")["ключ"]
        assert [repr(value) for _, value in points] == ["inf", "-0.0", "5e-324", "1e+308", "0.1"]
        assert math.isnan(client.get("nan")["nan"][0][1])

    def test_an_error_reply_is_raised_and_the_connection_goes_on(self, client: Client) -> None:
        with pytest.raises(ClientError, match="wrong command"):
            client.put("k", "one", 1)
        client.put("k", 1, 1)
        assert client.get("k") == {"k": [(1, 1.0)]}

    @pytest.mark.parametrize("word", ["", " ", "a b", "a\n", "\ra", "a\u2028b", "\x1c", "\ud800"])
    def test_what_would_break_the_framing_is_not_sent(self, client: Client, word: str) -> None:
        with pytest.raises(ClientError):
            client.put(word, 1, 1)
        with pytest.raises(ClientError):
            client.put("k", word, 1)
        with pytest.raises(ClientError):
            client.put("k", 1, word)
        with pytest.raises(ClientError):
            client.get(word)
        with pytest.raises(ClientError, match="measurement 1"):
            client.put_many([("k", 1, 1), (word, 1, 1)])
        assert client.get("*") == {}

    def test_put_many(self, client: Client) -> None:
        client.put_many([])
        client.put_many(("k%d" % (i % 7), i / 4, i) for i in range(50000))
        everything = client.get("*")
        assert len(everything) == 7
        assert everything["k3"] == [(i, i / 4) for i in range(3, 50000, 7)]

    def test_put_many_says_which_was_refused_and_stores_the_others(self, client: Client) -> None:
        measurements = [("k", "1", t) for t in range(1000)]
        measurements[700] = ("k", "seven", 700)
        measurements[800] = ("k", "eight", 800)
        with pytest.raises(
            ClientError, match=r"measurement 700 .*wrong command.*seven.* 2 of 1000"
        ):
            client.put_many(measurements)
        assert [t for t, _ in client.get("k")["k"]] == [
            t for t in range(1000) if t not in (700, 800)
        ]

    @pytest.mark.parametrize("measurement", [("k",), ("k", 1, 2, 3), None])
    def test_put_many_of_something_else(self, client: Client, measurement: object) -> None:
        with pytest.raises(ClientError, match="measurement 0"):
            client.put_many([measurement])  # type: ignore[list-item]

    def test_a_large_reply(self, client: Client) -> None:
        client.put_many(("k", i, i) for i in range(100000))
        assert client.get("k") == {"k": [(i, float(i)) for i in range(100000)]}

    def test_after_close(self, client: Client) -> None:
        client.close()
        client.close()
        with pytest.raises(ClientError, match="closed"):
            client.get("k")
        with pytest.raises(ClientError, match="closed"):
            client.put_many([("k", 1, 1)])

    def test_a_server_that_has_stopped(self) -> None:
        with running() as server:
            client = Client(*server.address)
            client.put("k", 1, 1)
        with client:
            for _ in range(2):
                with pytest.raises(ClientError):
                    client.get("k")


class TestAgainstFailures:
    def test_a_refused_connection(self) -> None:
        with pytest.raises(ClientError, match="cannot connect"):
            Client("127.0.0.1", free_port())

    @pytest.mark.parametrize(
        "address", [("no.such.host.invalid", 1), ("127.0.0.1", 65536), ("..", 1)]
    )
    def test_an_impossible_address(self, address: object) -> None:
        with pytest.raises(ClientError, match="cannot connect"):
            Client(*address)  # type: ignore[misc]

    def test_impossible_arguments(self, client: Client) -> None:
        with pytest.raises(ClientError):
            Client("127.0.0.1", 1, timeout=-1)
        with pytest.raises(ClientError):
            client.put("k", 1, 10**5000)

    @pytest.mark.parametrize(
        "reply",
        [
            b"ok\nk 1.0\n\n", b"ok\nk 1.0 1 1\n\n", b"ok\nk one 1\n\n", b"ok\nk 1.0 1.5\n\n",
            b"ok\nk 1.0 one\n\n", b"error\nwrong command\n\n", b"error\n\n", b"ok\nk \xff 1\n\n",
            b"ok\n\xff 1 1\n\n",
        ],
    )  # fmt: skip
    def test_errors_and_malformed_rows(self, reply: bytes) -> None:
        with failing(replying(reply, b"ok\nk 2.0 2\n\n")) as client:
            with pytest.raises(ClientError):
                client.get("k")
            assert client.get("k") == {"k": [(2, 2.0)]}  # this one was read to its end

    @pytest.mark.parametrize(
        "reply",
        [b"okay\n\n", b"\n\n", b"OK\n\n", b"garbage\n\n", b"\xff\n\n", b"ok k 1.0 1\n\n"],
    )
    def test_after_what_is_no_reply_at_all_the_next_is_not_trusted(self, reply: bytes) -> None:
        with failing(replying(reply, b"ok\nk 2.0 2\n\n")) as client:
            with pytest.raises(ClientError, match="malformed"):
                client.get("k")
            with pytest.raises(ClientError, match="closed"):
                client.get("k")

    def test_a_reply_to_a_put_with_rows_is_malformed(self) -> None:
        with failing(replying(b"ok\nk 1.0 1\n\n")) as client:
            with pytest.raises(ClientError, match="malformed"):
                client.put("k", 1, 1)

    @pytest.mark.parametrize("many", [False, True])
    def test_after_ctrl_c_the_late_reply_is_not_read(self, many: bool) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        asked = threading.Event()

        def script(connection: socket.socket) -> None:
            connection.recv(65536)
            os.kill(os.getpid(), signal.SIGUSR1)
            asked.wait(10)
            connection.sendall(b"ok\nstale 1.0 1\n\n")
            connection.recv(65536)

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            with failing(script) as client:
                with pytest.raises(KeyboardInterrupt):
                    client.put_many([("k", 1, 1)]) if many else client.get("k")
                asked.set()
                with pytest.raises(ClientError, match="closed"):
                    client.get("k")
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_what_is_sent_is_the_protocol_s_grammar(self) -> None:
        got: List[bytes] = []

        def script(connection: socket.socket) -> None:
            for _ in range(3):
                got.append(connection.recv(65536))
                connection.sendall(b"ok\n\n")

        with failing(script) as client:
            client.put("k", 1.5, 1)
            client.get("k")
            client.put_many([("k", 2, 2)])
        assert got == [b"put k 1.5 1\n", b"get k\n", b"put k 2 2\n"]

    @pytest.mark.parametrize("start", [b"", b"o", b"ok\n", b"ok\nk 1.0 1\n", b"garbage"])
    def test_a_server_that_closes_in_the_middle(self, start: bytes) -> None:
        with failing(lambda connection: connection.sendall(start), closing) as client:
            with pytest.raises(ClientError):
                client.get("k")
            with pytest.raises(ClientError):
                client.get("k")

    @pytest.mark.parametrize("start", [b"", b"ok\nk 1.0 1\n"])
    def test_a_server_that_stalls_is_a_time_out_and_its_late_reply_is_not_read(
        self, start: bytes
    ) -> None:
        asked = threading.Event()

        def stall(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(start)
            asked.wait(10)
            connection.sendall(b"k 1.0 1\n\n")
            connection.recv(65536)

        with failing(stall, timeout=0.1) as client:
            with pytest.raises(ClientError, match="timed out"):
                client.get("first")
            asked.set()
            with pytest.raises(ClientError):
                client.get("second")

    def test_a_reply_too_many_is_not_read_as_the_next_one(self) -> None:
        for replies in ([b"ok\n\nok\nstale 1.0 1\n\n"], [b"garbage\n\nok\nstale 1.0 1\n\n"]):
            with failing(replying(*replies)) as client:
                with contextlib.suppress(ClientError):
                    client.get("first")
                with pytest.raises(ClientError, match=r"more than one|closed"):
                    client.get("second")

    def test_an_unasked_reply_that_comes_later(self) -> None:
        sent = threading.Event()

        def script(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"ok\n\n")
            asked.wait(10)
            connection.sendall(b"ok\nstale 1.0 1\n\n")
            sent.set()
            connection.recv(65536)

        asked = threading.Event()
        with failing(script) as client:
            assert client.get("first") == {}
            asked.set()
            sent.wait(10)
            with pytest.raises(ClientError):
                client.get("second")

    def test_rows_are_sorted_whatever_the_server_does(self) -> None:
        with failing(replying(b"ok\nk 2.0 2\nj 9.0 9\nk 1.0 1\n\n")) as client:
            assert client.get("*") == {"k": [(1, 1.0), (2, 2.0)], "j": [(9, 9.0)]}

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_a_reply_in_pieces(self, size: int) -> None:
        reply = b"ok\nk 1.0 1\nk 2.0 2\n\n"

        def script(connection: socket.socket) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(65536)
            for start in range(0, len(reply), size):
                connection.sendall(reply[start : start + size])

        with failing(script) as client:
            assert client.get("k") == {"k": [(1, 1.0), (2, 2.0)]}


class TestPutManyAgainstFailures:
    MANY: ClassVar[List[Tuple[str, float, int]]] = [("k", 1.0, t) for t in range(100000)]

    def test_a_server_that_pauses_until_its_replies_are_read(self) -> None:
        """It answers each receive before the next, so whoever only writes waits for ever."""

        def script(connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            waiting = len(self.MANY)
            while waiting:
                count = connection.recv(65536).count(b"\n")
                connection.sendall(b"ok\n\n" * count)
                waiting -= count

        with failing(script) as client:
            client.put_many(self.MANY)

    @pytest.mark.parametrize("reply", [b"", b"ok\n\n" * 10, b"ok\n\ngarbage\n\n"])
    def test_a_server_that_closes_in_the_middle(self, reply: bytes) -> None:
        with failing(lambda connection: connection.sendall(reply), closing) as client:
            with pytest.raises(ClientError):
                client.put_many(self.MANY)
            with pytest.raises(ClientError):
                client.get("k")

    def test_a_server_that_stalls(self) -> None:
        done = threading.Event()

        def stall(_: socket.socket) -> None:
            done.wait(10)

        with failing(stall, timeout=0.1) as client:
            with pytest.raises(ClientError, match="timed out"):
                client.put_many(self.MANY)
            done.set()
            with pytest.raises(ClientError):
                client.get("k")

    @pytest.mark.parametrize("replies", [b"ok\n\n" * 3, b"ok\n\nOK\n\n", b"\n\nok\n\n"])
    def test_wrong_replies(self, replies: bytes) -> None:
        with failing(replying(replies)) as client, pytest.raises(ClientError):
            client.put_many(self.MANY[:2])


def test_a_client_program(server: Server, client: Client) -> None:
    """Several clients, each in a thread of its own."""
    failures: List[BaseException] = []

    def work(number: int) -> None:
        try:
            with Client(*server.address) as mine:
                for timestamp in range(100):
                    mine.put("k%d" % number, timestamp, timestamp)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert client.get("*").keys() == {"k%d" % number for number in range(8)}


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("x", 1, time.time()), r"^timestamp takes whole seconds, not [\d.]+; try int"),
        (("x", 1, True), "^timestamp takes whole seconds, not True"),
        (("x", [1]), r"^value takes a number, not \[1\]$"),
        (("x", None), "^value takes a number, not None$"),
        (("x", True), "^value takes a number, not True$"),
        ((b"x", 1), "^key takes text, not b'x'$"),
        ((7, 1), "^key takes text, not 7$"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(
    client: Client, arguments: Tuple[str, float], says: str
) -> None:
    with pytest.raises(ClientError, match=says):
        client.put(*arguments)
    with pytest.raises(ClientError, match="measurement 1: " + says.lstrip("^")):
        client.put_many([("x", 1, 1), arguments])  # type: ignore[list-item]
    assert client.get("*") == {}


def test_other_kinds_of_numbers_are_numbers(client: Client) -> None:
    client.put("x", Fraction(1, 4), 1)  # type: ignore[arg-type]
    client.put("x", Decimal("0.5"), 2)  # type: ignore[arg-type]
    assert client.get("x") == {"x": [(1, 0.25), (2, 0.5)]}
