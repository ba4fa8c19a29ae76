"""``python3 -m metricsd`` as a user starts it."""

import contextlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

import metricsd
from metricsd.__main__ import main, make_parser
from tests.conversation import Conversation, connect, free_port

ROOT = Path(metricsd.__file__).parent.parent
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "metricsd"]


@contextlib.contextmanager
def started(
    *options: str, command: List[str] = COMMAND
) -> Iterator[Tuple["subprocess.Popen[bytes]", int]]:
    """The program on a free port, as soon as it says which."""
    arguments = [*command, "--port", "0", *options]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, cwd=str(ROOT)) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline().decode()
            address = re.search(r"listening on 127\.0\.0\.1:(\d+)$", line)
            assert address, line
            yield process, int(address.group(1))
        finally:
            process.kill()


def lines_until(process: "subprocess.Popen[bytes]", words: str) -> List[str]:
    """What it logs from now on, up to a line with these words."""
    assert process.stderr is not None
    lines: List[str] = []
    while not lines or words not in lines[-1]:
        line = process.stderr.readline().decode()
        assert line, f"it has ended without {words!r}: {lines}"
        lines.append(line.rstrip())
    return lines


def run(*options: str) -> Tuple[int, str]:
    """Exit code and standard error of a run that should end by itself."""
    process = subprocess.run(
        [*COMMAND, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=str(ROOT),
        timeout=20,
    )
    return process.returncode, process.stderr.decode()


def test_a_whole_session_prints_nothing_but_the_log() -> None:
    with started() as (process, port):
        with Conversation(("127.0.0.1", port)) as client:
            assert client.ask(b"put k 1 1\nget k\n\xff\n", 3).startswith(b"ok\n\nok\nk 1.0 1\n\n")
            client.socket.sendall(b"get ")
            client.no_more()
            assert client.rest() == b""
        for _ in range(5):
            client = Conversation(("127.0.0.1", port))
            client.socket.sendall(b"get *\n" * 1000)
            client.reset()
        with Conversation(("127.0.0.1", port)) as client:
            assert client.ask(b"get k\n") == b"ok\nk 1.0 1\n\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert process.stderr is not None
        lines = process.stderr.read().decode().splitlines()
    assert len(lines) == 3
    assert "points are in memory" in lines[0]
    assert lines[1].endswith(f"INFO: next: talk to it in another terminal: nc 127.0.0.1 {port}")
    assert lines[2].endswith("metricsd INFO: stopped")


def test_options_reach_the_server() -> None:
    with started("--max-line-bytes", "5", "--max-connections", "1", "--idle-timeout", "0.2") as (
        _,
        port,
    ), Conversation(("127.0.0.1", port)) as client:
        assert client.ask(b"get k\nget kk\n", 2) == b"ok\n\nerror\nwrong command\n\n"
        with Conversation(("127.0.0.1", port)) as waiting:
            waiting.socket.sendall(b"get k\n")
            assert client.rest() == b""  # idle
            assert waiting.read() == b"ok\n\n"


def test_the_store_has_its_limits() -> None:
    with started("--max-points", "2", "--retention", "7d") as (_, port), Conversation(
        ("127.0.0.1", port)
    ) as client:
        now = int(time.time())
        assert client.ask(b"put k 1 %d\nput k 1 %d\n" % (now, now - 604000), 2) == b"ok\n\n" * 2
        assert client.ask(b"put k 1 1\n") == b"error\nstore is full\n\n"
        with metricsd.Client("127.0.0.1", port) as other:
            with pytest.raises(metricsd.ClientError, match="store is full"):
                other.put("new", 1.0)
            other.put("k", 2.0, now)
            assert other.get("*") == {"k": [(now - 604000, 1.0), (now, 2.0)]}


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800), ("007s", 7)]
)
def test_durations(text: str, seconds: int) -> None:
    assert make_parser().parse_args(["--retention", text]).retention == seconds


def test_log_level() -> None:
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--host", "0.0.0.0", "--log-level", "warning"],
        stderr=subprocess.PIPE,
        cwd=str(ROOT),
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        process.terminate()
        assert process.wait(10) == 0
        assert "WARNING: 0.0.0.0 can be reached from other machines" in line
        assert process.stderr.read() == b""


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        port = sock.getsockname()[1]
        code, said = run("--port", str(port))
    assert code == 1
    assert said == (
        f"metricsd: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "stop what listens there, or choose another port\n"
    )


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.1.1.1", "..", "203.0.113.1"])
def test_an_impossible_host_is_one_clear_line(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--host", host, "--port", "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("metricsd: cannot listen on " + host)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--port", "65536"], ["--port", "-1"], ["--port", "http"], ["--port", ""],
        ["--max-connections", "0"], ["--max-connections", "many"], ["--max-line-bytes", "-5"],
        ["--idle-timeout", "0"], ["--idle-timeout", "nan"], ["--idle-timeout", "inf"],
        ["--idle-timeout", "long"],
        ["--max-points", "0"], ["--max-points", "1e6"], ["--retention", "0s"],
        ["--retention", "1.5h"], ["--retention", "-1d"],
        ["--retention", "1w"], ["--retention", ""], ["--retention", "\u0669s"],
        ["--log-level", "loud"], ["--frobnicate"], ["--por", "1"], ["extra"], ["--port"],
    ],
)  # fmt: skip
def test_a_bad_option_is_one_clear_line(
    options: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert said.startswith("metricsd: ")
    assert said.endswith(" (see --help)\n")
    assert said.count("\n") == 1
    if options[0] != "extra":
        assert options[0] in said


def test_a_bad_option_ends_the_program() -> None:
    assert run("--port", "65536") == (
        2,
        "metricsd: argument --port: takes none or a whole number from 0 to 65535, not '65536' "
        "(see --help)\n",
    )


def test_version_and_help() -> None:
    said = subprocess.check_output([*COMMAND, "--version"], cwd=str(ROOT)).decode()
    assert said == f"metricsd {metricsd.__version__}\n"
    said = subprocess.check_output([*COMMAND, "--help"], cwd=str(ROOT)).decode()
    for word in ("--host", "--port", "--max-connections", "--idle-timeout", "127.0.0.1", "telnet"):
        assert word in said


def test_seconds_are_any_positive_number() -> None:
    assert make_parser().parse_args(["--idle-timeout", "2.5"]).idle_timeout == 2.5


def test_ctrl_c_before_the_server_minds_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("metricsd.__main__.run_server", interrupted)
    assert main([]) == 130


@pytest.mark.parametrize("options", [[], ["--trace"]])
def test_it_serves_with_its_standard_error_closed(options: List[str]) -> None:
    port = free_port()
    command = [*COMMAND, "--port", str(port), *options]
    line = "exec " + " ".join(map(shlex.quote, command)) + " 2>&- <&-"
    with subprocess.Popen(["sh", "-c", line], cwd=str(ROOT)) as process:
        with connect(port) as client:
            assert client.ask(b"put k 1 1\nget k\n\xff\n", 3).startswith(b"ok\n\nok\nk 1.0 1\n\n")
        process.terminate()
        assert process.wait(10) == 0


def test_stopping_says_for_whom_and_how_to_end_it() -> None:
    with started() as (process, port), Conversation(("127.0.0.1", port), 4096) as client:
        assert process.stderr is not None
        client.ask(b"".join(b"put k 0.25 %d\n" % t for t in range(2000)), 2000)
        client.socket.settimeout(0.2)
        with contextlib.suppress(socket.timeout):
            while True:
                client.socket.sendall(b"get k\n" * 100)
        assert b"points are in memory" in process.stderr.readline()
        assert b"next: " in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        line = process.stderr.readline().decode()
        assert "stopping: 1 clients have 5 s to take their replies; Ctrl-C ends it at once" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
