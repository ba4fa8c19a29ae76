"""Unix sockets: who gets in, what is done about a path that is taken, and what is left of it."""

import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from metricsd import Client, ClientError, ListenError, OptionError, Server
from tests.conftest import running
from tests.conversation import Conversation
from tests.test_command_line import COMMAND, ROOT
from tests.test_session import SEED_DIALOGUE

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="this system has no unix sockets"
)

OK = b"ok\n\n"


@pytest.fixture(name="path")
def _path(quick_path: Path) -> str:
    return str(quick_path / "metricsd.sock")


def is_socket(path: str) -> bool:
    return os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode)


def test_the_seed_dialogue_and_then_it_is_gone(path: str) -> None:
    with running(None, None, unix=path) as server:
        assert server.addresses == []
        with Conversation(path) as client:
            for request, reply in SEED_DIALOGUE:
                assert client.ask(request) == reply
            client.socket.sendall(b"put a 1 1\nget a\nput a 1 15")
            client.no_more()
            assert client.rest() == OK + b"ok\na 1.0 1\n\n"
        assert is_socket(path)
    assert not os.path.exists(path)


def test_beside_tcp_there_is_one_store(path: str) -> None:
    with running("127.0.0.1", 0, unix=path) as server:
        with Conversation(server.address) as over_tcp, Conversation(path) as over_unix:
            assert over_tcp.ask(b"put a 1 1\n") == OK
            assert over_unix.ask(b"get a\n") == b"ok\na 1.0 1\n\n"


@pytest.mark.parametrize("given, mode", [(None, 0o600), ("0660", 0o660), (0o666, 0o666)])
def test_the_mode_says_who_gets_in_whatever_the_umask(path: str, given: Any, mode: int) -> None:
    before = os.umask(0o027)
    try:
        options = {} if given is None else {"unix_mode": given}
        with running(None, "none", unix=path, **options):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
    finally:
        os.umask(before)


def test_a_stale_socket_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
        killed.listen(1)
    assert is_socket(path)  # nobody has removed it
    with running(None, None, unix=path), Conversation(path) as client:
        assert client.ask(b"get a\n") == OK
    assert not os.path.exists(path)


def test_a_live_one_is_not(path: str) -> None:
    with running(None, None, unix=path):
        with pytest.raises(ListenError, match="a server listens there; stop that one, or choose"):
            Server(None, None, unix=path)
        with Conversation(path) as client:
            assert client.ask(b"get a\n") == OK


def test_one_that_is_too_busy_to_accept_is_alive(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)
        with pytest.raises(ListenError, match="a server listens there"):
            Server(None, None, unix=path)
        assert is_socket(path)


def test_a_file_that_is_no_socket_stays(path: str) -> None:
    Path(path).write_text("precious", encoding="utf-8")
    with pytest.raises(ListenError, match="there is a file that is no socket; choose another"):
        Server(None, None, unix=path)
    assert Path(path).read_text(encoding="utf-8") == "precious"


def test_what_another_server_has_put_there_meanwhile_stays(path: str) -> None:
    with Server(None, None, unix=path):
        os.unlink(path)
        other = Server(None, None, unix=path)
    with other:
        assert is_socket(path)
    assert not os.path.exists(path)


def test_a_relative_path_is_that_of_the_start(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(os.path.dirname(path))
    with Server(None, None, unix=os.path.basename(path)):
        monkeypatch.chdir(tmp_path)
        assert is_socket(path)
    assert not os.path.exists(path)


@pytest.mark.parametrize("path", ["/no/such/folder/x", "/tmp/" + "x" * 200])
def test_an_impossible_path_is_one_clear_line(path: str) -> None:
    with pytest.raises(ListenError, match=f"^cannot listen on unix:{path}: "):
        Server(None, None, unix=path)


def test_a_failure_later_in_the_start_leaves_nothing(path: str, server: Server) -> None:
    with pytest.raises(ListenError):
        Server(None, None, unix=path, graphite=server.address)
    assert not os.path.exists(path)


def test_nowhere_at_all_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^port is none, so nobody could connect: give unix"):
        Server(None, None)


def test_a_client_by_path(path: str) -> None:
    with running(None, None, unix=path), Client("unix:" + path, timeout=10) as client:
        client.put_many(("k", number, number) for number in range(20000))
        client.put("k", -1, 0)
        assert client.get("k")["k"][:2] == [(0, -1.0), (1, 1.0)]


@pytest.mark.parametrize(
    "arguments, says",
    [(("unix:/no/such",), "unix:/no/such: No such file"), (("host",), "host: there has to be")],
)
def test_a_client_of_nobody(arguments: Any, says: str) -> None:
    with pytest.raises(ClientError, match=f"^cannot connect to {says}"):
        Client(*arguments)


def test_the_command_says_where_it_listens(path: str) -> None:
    command = [*COMMAND, "--port", "none", "--unix", path, "--unix-mode", "0660"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=str(ROOT)) as process:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert said.endswith(f"INFO: listening on unix:{path}\n")
        with Conversation(path) as client:
            assert client.ask(b"get a\n") == OK
        process.terminate()
        assert process.wait(10) == 0
    assert not os.path.exists(path)


def test_it_can_be_watched(path: str) -> None:
    command = [*COMMAND, "--port", "none", "--unix", path, "--trace"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=str(ROOT)) as process:
        assert process.stderr is not None
        while b"INFO: listening" not in process.stderr.readline():
            pass
        with Conversation(path) as client:
            assert client.ask(b"get a\n") == OK
        process.terminate()
        said = process.stderr.read().decode()
        assert process.wait(10) == 0
    assert "opened     from unix:" in said
    assert "Traceback" not in said


def test_stopping_waits_for_nobody_who_has_not_read_yet(path: str) -> None:
    with Server(None, None, unix=path) as server, Conversation(path) as one:
        with Conversation(path) as other:
            one.socket.sendall(b"put k 1 1\nget k\n")
            server.stop()
            server.serve_forever()
            assert one.rest() == OK + b"ok\nk 1.0 1\n\n"
            assert other.rest() == b""
