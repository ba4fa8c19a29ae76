"""The client's command line, against the real server and others."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple

import pytest

import metricsd
from metricsd import Client, Server
from metricsd.client import loading
from metricsd.client.__main__ import main
from tests.certificates import folder, needs_openssl, server_options
from tests.conftest import running
from tests.conversation import free_port
from tests.test_client import failing, replying

ROOT = Path(metricsd.__file__).parent.parent
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "metricsd.client"]


def run(where: List[str], *words: str, given: bytes = b"") -> Tuple[int, str, str]:
    """Exit code, standard output and standard error, in this process, which takes less time."""
    with tempfile.TemporaryFile(
        "w+", encoding="ascii"
    ) as output, pytest.MonkeyPatch.context() as m:
        errors = io.StringIO()
        m.setattr(sys, "stdout", output)
        m.setattr(sys, "stderr", errors)
        m.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        try:
            code: Any = main([*where, *words])
        except SystemExit as ended:
            code = ended.code
        os.lseek(output.fileno(), 0, os.SEEK_SET)
        return code, os.read(output.fileno(), 1 << 24).decode(), errors.getvalue()


def at(server: Server) -> List[str]:
    return ["--port", str(server.address[1])]


@pytest.fixture(name="where")
def _where(server: Server) -> List[str]:
    with Client(*server.address) as client:
        client.put_many([("a", 1, 10), ("a", 0.1, 20), ("ключ", "nan", 5), ("*", "-0", 7)])
    return at(server)


def test_put(server: Server) -> None:
    before = int(time.time())
    assert run(at(server), "put", "k", "1.5") == (0, "", "")
    assert run(at(server), "put", "k", "2", "7") == (0, "", "")
    with Client(*server.address) as client:
        early, late = client.get("k")["k"]
    assert early == (7, 2.0)
    assert before <= late[0] <= time.time()


@pytest.mark.parametrize(
    "words, said",
    [
        (["get", "a"], "a 1.0 10\na 0.1 20\n"),
        (["get", "a", "--from", "11"], "a 0.1 20\n"),
        (["get", "*", "--from", "7", "--until", "10"], "a 1.0 10\n* -0.0 7\n"),
        (["get", "a", "--last", "1h"], ""),
        (["get", "nobody"], ""),
        (["get", "a", "--csv"], "key,timestamp,value\r\na,10,1.0\r\na,20,0.1\r\n"),
        (["keys"], "a\nключ\n*\n"),
        (["keys", "?"], "a\n*\n"),
        (["keys", "к*"], "ключ\n"),
        (["dump"], "put a 1.0 10\nput a 0.1 20\nput ключ nan 5\nput * -0.0 7\n"),
    ],
)
def test_what_is_printed(where: List[str], words: List[str], said: str) -> None:
    assert run(where, *words) == (0, said, "")


def test_json_has_a_line_for_each_point(where: List[str]) -> None:
    code, said, _ = run(where, "get", "*", "--json")
    points = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    assert points[0] == {"key": "a", "timestamp": 10, "value": 1.0}
    assert points[2] == {"key": "ключ", "timestamp": 5, "value": None}


def test_dump_and_load_keep_every_value_and_every_key(where: List[str]) -> None:
    with running() as server, running() as other:
        with Client(*server.address) as client:
            client.put_many(
                (f"k{number % 7}", value, number)
                for number, value in enumerate(
                    [0.1, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), -0.0, 1e22]
                    * 500
                )
            )
            client.put_many([("put", 1, -(2**63)), ("get", 1, 2**63 - 1), ("*", "nan", 0)])
        _, dumped, _ = run(at(server), "dump")
        assert run(at(other), "load", given=dumped.encode()) == (0, "", "")
        assert run(at(other), "dump") == (0, dumped, "")
        assert dumped.count("\n") == 3503


def test_load_takes_what_get_prints_and_says_which_line_is_refused(server: Server) -> None:
    given = b"k 1 1\n\nput k two 2\nput k 3 3\r\n\xff\nget *\nk 1 2 3 4\nput put 5 5\n"
    code, said, errors = run(at(server), "load", given=given)
    assert (code, said) == (1, "")
    assert [line.rpartition(": ")[0] for line in sorted(errors.splitlines())] == [
        "line 3 refused: wrong command",
        "line 5 refused: not UTF-8",
        "line 6 refused: neither a put nor a row of a get",
        "line 7 refused: neither a put nor a row of a get",
    ]
    with Client(*server.address) as client:
        assert client.get("*") == {"k": [(1, 1.0), (3, 3.0)], "put": [(5, 5.0)]}


def test_load_waits_while_the_store_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metricsd.upkeep.SHORTEST_PAUSE", 0.05)
    path = tmp_path / "points"
    path.write_text("".join(f"put new 1 {n}\n" for n in range(50)), encoding="ascii")
    clock = [1000.0]
    with running(max_points=60, retention=10, wall_clock=lambda: clock[0]) as server:
        with Client(*server.address) as client:
            client.put_many((f"old.{n}", n, 999) for n in range(50))
        path.write_text("".join(f"put new 1 {1100 + n}\n" for n in range(50)), encoding="ascii")
        timer = threading.Timer(0.1, clock.__setitem__, (0, 1101.0))
        timer.start()
        assert run(at(server), "load", str(path)) == (0, "", "")
        timer.join()
        with Client(*server.address) as client:
            assert len(client.get("new")["new"]) == 50


def test_load_gives_up_when_nothing_is_stored_for_too_long() -> None:
    with running(max_points=2) as server:
        given = b"put k 1 1\nput k 2 2\nput k 3 3\nput k 1 1\n"
        code, _, errors = run(at(server), "load", "--patience", "0.3s", given=given)
        assert code == 2  # a duration has whole units
        code, _, errors = run(at(server), "load", "--patience", "0.3", given=given)
    assert code == 1
    assert errors == (
        "metricsd-client: line 3: store is full, for 0.3 s now; 3 points are stored\n"
    )


class Terminal:
    def __init__(self) -> None:
        self.said = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.said += text

    def flush(self) -> None:
        pass


def test_progress_on_a_terminal(server: Server) -> None:
    terminal = Terminal()
    with Client(*server.address) as client:
        one = loading.Loading(client, 1, terminal)
        one.store([(1, b"put k 1 1\n"), (2, b"put k x 1\n")])
        one.end()
    assert "line 2 refused: wrong command: put k x 1\n" in terminal.said
    assert re.search(r"1 points, \d+ a second, 1 refused\n$", terminal.said)


@pytest.mark.parametrize("command", [["get", "*"], ["dump"], ["keys"]])
def test_a_server_that_leaves_in_the_middle_is_one_line(command: List[str]) -> None:
    reply = b"ok\na 1.0 1\na 2.0 2\n"

    def script(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(reply)

    with failing(script) as client:
        port = client._socket.getpeername()[1]
        rows = client.rows("*")
        assert [next(rows), next(rows)] == [("a", 1, 1.0), ("a", 2, 2.0)]
        with pytest.raises(metricsd.ClientError, match="the server closed the connection"):
            next(rows)
    code, said, errors = run(["--port", str(port)], *command)
    assert (code, said) == (1, "")
    assert errors.startswith("metricsd-client: cannot connect to 127.0.0.1:")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("reply", [b"ok\na 1\n\n", b"OK\n\n", b"ok\na x 1\n\n", b"error\nwhy\n\n"])
def test_rows_of_other_servers(reply: bytes) -> None:
    with failing(replying(reply)) as client, pytest.raises(metricsd.ClientError):
        list(client.rows("*"))


def test_leaving_off_early_closes(server: Server) -> None:
    with Client(*server.address) as client:
        client.put_many(("k", 1, t) for t in range(1000))
        assert len(list(client.rows("k"))) == 1000
        rows = client.rows("k")
        next(rows)
        rows.close()  # type: ignore[attr-defined]
        with pytest.raises(metricsd.ClientError, match="closed"):
            client.get("k")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="VmHWM is Linux's")
def test_a_dump_takes_no_more_memory_than_a_few_rows() -> None:
    program = (
        "import sys\nfrom metricsd.client.__main__ import main\nmain()\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    peaks = []
    with running() as server:
        for points in (0, 100000):
            with Client(*server.address) as client:
                client.put_many(("k", t / 7, t) for t in range(points))
            command = [sys.executable, "-c", program, *at(server), "dump"]
            process = subprocess.run(
                command, cwd=str(ROOT), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            peaks.append(int(process.stderr))
    assert peaks[1] - peaks[0] < 2000  # KiB; the rows are some 2,500


def test_the_pipe_may_end_early(where: List[str]) -> None:
    line = " ".join([*COMMAND, *where, "dump"]) + " | true"
    process = subprocess.run(["sh", "-c", line], cwd=str(ROOT), stderr=subprocess.PIPE)
    assert process.stderr == b""


@pytest.mark.parametrize(
    "words, code, says",
    [
        (["get"], 2, "required: KEY"),
        ([], 2, "required: COMMAND"),
        (["get", "k", "--last", "soon"], 2, "takes a duration"),
        (["put", "a b", "1"], 1, "'a b' is empty or holds white space"),
        (["put", "k", "one", "1"], 1, "wrong command"),
        (["load", "/no/such/file"], 1, "No such file"),
    ],
)
def test_a_mistake_is_one_line(where: List[str], words: List[str], code: int, says: str) -> None:
    got, said, errors = run(where, *words)
    assert (got, said) == (code, "")
    assert says in errors
    assert errors.startswith("metricsd-client")
    assert errors.count("\n") == 1


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", str(free_port()), "keys"]) == 1
    assert "cannot connect to 127.0.0.1:" in capsys.readouterr().err
    assert main(["--tls-ca", "/no/such.pem", "keys"]) == 1
    assert capsys.readouterr().err == (
        "metricsd-client: cannot use /no/such.pem: No such file or directory\n"
    )


def test_over_a_unix_socket(quick_path: Path) -> None:
    path = str(quick_path / "x.sock")
    with running(None, None, unix=path):
        assert run(["--unix", path], "put", "k", "1", "1") == (0, "", "")
        assert run(["--unix", path], "get", "k") == (0, "k 1.0 1\n", "")


@needs_openssl
@pytest.mark.parametrize("agent", ["agent", None])
def test_over_tls(agent: Optional[str]) -> None:
    options: Any = server_options(clients=True)
    with running("127.0.0.1", 0, **options) as server:
        where = [*at(server), "--tls-ca", str(folder() / "ca.pem")]
        if agent:
            where += ["--tls-cert", str(folder() / "agent.pem")]
            where += ["--tls-key", str(folder() / "agent.key")]
        code, _, errors = run(where, "put", "k", "1", "1")
        assert code == (0 if agent else 1)
        assert errors.count("\n") == (0 if agent else 1)
