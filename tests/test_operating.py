"""What OPERATING.md says is so: its commands run, as they stand there or on a free port."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

import metricsd
from metricsd import Server
from metricsd.counters import ROWS
from metricsd.options import from_environment
from metricsd.systemd import NAMES
from tests.conftest import running
from tests.conversation import SECONDS, Conversation, connect, free_port
from tests.test_command_line import started

PACKAGE = Path(metricsd.__file__).parent
ROOT = PACKAGE.parent
PAGE = (PACKAGE / "OPERATING.md").read_text(encoding="utf-8")

SECTIONS = [
    "Start it", "Supervise it", "Guard it", "Feed it", "See it", "Keep it", "Sizing",
    "Signals and log", "Counters and alarms", "Limits and refusals", "Grow past one machine",
    "The client's commands", "All options",
]  # fmt: skip


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"there is no section {title!r}"
    return found.group(1)


def blocks(title: str, language: str = "sh") -> List[str]:
    """What stands in a section as code of a language."""
    return re.findall(f"```{language}\n(.*?)```", section(title), re.DOTALL)


def rows_of(server: Server, key: str, points: int = 1) -> str:
    """Ask until a key has so many points; the rows."""
    deadline = time.monotonic() + SECONDS
    with Conversation(server.address) as talk:
        while True:
            reply = talk.ask(b"get %s\n" % key.encode()).decode()
            if reply.count("\n") - 2 >= points:
                return reply[3:-1]
            assert time.monotonic() < deadline, reply


def test_it_has_its_sections() -> None:
    assert re.findall("^## (.*)$", PAGE, re.MULTILINE) == SECTIONS


def test_what_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", PAGE)
    assert links
    for name, anchor in links:
        text = (PACKAGE / name).read_text(encoding="utf-8")
        headings = re.findall("^##* (.*)$", text, re.MULTILINE)
        anchors = [re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in headings]
        assert not anchor or anchor in anchors


def test_the_readme_links_to_it() -> None:
    assert "(metricsd/OPERATING.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_command_that_starts_it(quick_path: Path) -> None:
    (command,) = [block.split() for block in blocks("Start it")]
    assert command[:3] == ["python3", "-m", "metricsd"]
    options = command[3:]
    options[options.index("--store") + 1] = f"sqlite:{quick_path}/points.db"
    options[options.index("--graphite") + 1] = str(free_port())
    with started(*options) as (_, port), connect(port) as talk:
        assert talk.ask(b"put k 1 %d\n" % time.time()) == b"ok\n\n"


@pytest.mark.skipif(not shutil.which("nc"), reason="there is no nc here")
def test_a_unix_socket(quick_path: Path) -> None:
    (command,) = [block.split() for block in blocks("Guard it") if "--unix" in block]
    command[0], path = sys.executable, str(quick_path / "metricsd.sock")
    command[command.index("--unix") + 1] = path
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=str(ROOT)) as process:
        assert process.stderr is not None
        assert b"listening on unix:" in process.stderr.readline()
        (talk,) = re.findall(r"`nc (-U) metricsd.sock`", section("Guard it"))
        with subprocess.Popen(["nc", talk, path], stdin=-1, stdout=-1) as nc:
            assert nc.stdin is not None
            assert nc.stdout is not None
            nc.stdin.write(b"put k 1 1\n")
            nc.stdin.flush()
            assert nc.stdout.readline() == b"ok\n"
            nc.kill()
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.skipif(
    b"OpenSSL 3" not in subprocess.check_output("openssl version || true", shell=True),
    reason="there is no openssl of version 3 here",
)
def test_tls_in_five_commands(tmp_path: Path) -> None:
    (commands,) = [block.splitlines() for block in blocks("Guard it") if "openssl" in block]
    assert len(commands) == 5
    for command in commands[:4]:
        subprocess.run(["bash", "-c", command], cwd=str(tmp_path), check=True, stderr=-1)
    serve = [sys.executable, *commands[4].split()[1:], "--port", "0"]
    (program,) = blocks("Guard it", "python")
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(serve, stderr=-1, cwd=str(tmp_path), env=environment) as process:
        assert process.stderr is not None
        port = re.findall(rb":(\d+) with TLS$", process.stderr.readline())[0].decode()
        program = program.replace("8888", port) + '    print(client.get("*"))\n'
        run = [sys.executable, "-c", program]
        said = subprocess.check_output(run, cwd=str(tmp_path), env=environment)
        assert b"room" in said
        process.terminate()
        assert process.wait(10) == 0


@contextlib.contextmanager
def fed() -> Iterator[Server]:
    with running(graphite=0) as server:
        yield server


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_a_line_from_bash() -> None:
    (command,) = [block for block in blocks("Feed it") if "/dev/tcp/" in block]
    with fed() as server:
        port = server._listeners["graphite"].addresses[0][1]
        subprocess.check_call(["bash", "-c", command.replace("2003", str(port))])
        assert rows_of(server, "backup.seconds").startswith("backup.seconds 12.0 ")


def test_backup_and_restore(quick_path: Path) -> None:
    """Copied while a server writes; then the copy takes the file's place."""
    (command,) = [block.split() for block in blocks("Keep it") if " backup " in block]
    path, copy = quick_path / command[4], quick_path / command[5]
    with running(store=f"sqlite:{path}") as server, Conversation(server.address) as talk:
        talk.ask(b"put k 1 1\n")
        subprocess.check_call([sys.executable, *command[1:4], str(path), str(copy)], cwd=str(ROOT))
        talk.ask(b"put k 2 2\n")
    for name in re.findall(r"`(points\.db-\w+)`", section("Keep it")):
        with contextlib.suppress(FileNotFoundError):
            (quick_path / name).unlink()
    copy.replace(path)
    with running(store=f"sqlite:{path}") as server, Conversation(server.address) as talk:
        assert talk.ask(b"get *\n") == b"ok\nk 1.0 1\n\n"


def test_each_refusal_is_what_a_client_reads(quick_path: Path) -> None:
    phrases = re.findall(r"^\| `([a-z ]+)` \|", section("Limits and refusals"), re.MULTILINE)
    package = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert len(phrases) >= 3
    for phrase in phrases:
        assert f'"{phrase}"' in package or rf"\n{phrase}\n" in package


def units() -> Dict[str, str]:
    """The units of the page, by their file names, for the Python that runs this."""
    command = f"{sys.executable} -m metricsd"
    return {
        text.split("\n", 1)[0][2:]: text.replace("/usr/local/bin/metricsd", command)
        for text in blocks("Supervise it", "ini")
    }


def test_the_units_name_options_that_there_are() -> None:
    found = re.search("^Environment=(.*)$", units()["metricsd.service"], re.MULTILINE)
    assert found
    variables = dict(word.split("=", 1) for word in found.group(1).split())
    assert len(from_environment(variables)) == len(variables)
    for name in re.findall("^FileDescriptorName=(.*)$", "".join(units().values()), re.MULTILINE):
        assert name in NAMES


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_systemd_takes_the_units_and_finds_little_exposed(tmp_path: Path) -> None:
    assert set(units()) == {"metricsd.service", "metricsd.socket", "metricsd-graphite.socket"}
    for name, text in units().items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in units()]
    for command in (["verify", *paths], ["security", "--offline=true", "--threshold=15", paths[0]]):
        process = subprocess.run(
            ["systemd-analyze", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, SYSTEMD_PAGER=""),
        )
        assert process.returncode == 0, process.stdout.decode()
        assert command[0] != "verify" or process.stdout == b"", process.stdout.decode()


def test_what_feeds_it_is_what_the_real_senders_are_tried_with() -> None:
    """bench/senders.py starts these programs; here is seen that they are told the same."""
    tried = (ROOT / "bench" / "senders.py").read_text(encoding="utf-8")
    tried = tried.replace("{port}", "2003").replace("{protocol}", "tcp")
    texts = blocks("Feed it", "text")
    for mark in ("write_graphite", "graphitePort", "cluster metricsd"):
        (text,) = [text for text in texts if mark in text]
        assert all(line in tried for line in text.splitlines()), text


@pytest.mark.skipif(not shutil.which("nc"), reason="there is no nc here")
def test_a_line_from_cron() -> None:
    (line,) = [text for text in blocks("Feed it", "text") if "nc -w" in text]
    command = line.split("* * * * ", 1)[1]
    with fed() as server:
        port = server._listeners["graphite"].addresses[0][1]
        with subprocess.Popen(["sh", "-c", command.replace("2003", str(port))]) as process:
            try:
                assert re.match(r"disk\.used \d+\.0 \d+\n", rows_of(server, "disk.used"))
            finally:
                process.kill()


def test_the_counters_to_alarm_on_are_there() -> None:
    names = {row.name for row in ROWS}
    found = set(re.findall("metricsd_[a-z_]+", section("Counters and alarms")))
    assert found
    assert found <= names


def figures(name: str, row: str) -> float:
    """The first figure of a row of a committed result."""
    text = (ROOT / "bench" / "results" / name).read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(row)} \| \**([0-9.,]+)", text, re.MULTILINE)
    assert found, row
    return float(found.group(1).replace(",", ""))


def test_what_to_reckon_with_is_near_what_was_measured() -> None:
    table = section("Sizing")
    for pattern, measured in [
        (r"counters ([\d.]+)", figures("compare.md", "counters")),
        (r"two decimals ([\d.]+)", figures("compare.md", "gauges of two decimals")),
        (r"any float ([\d.]+)", figures("compare.md", "floats of full precision")),
        (r"a gauge \| ([\d.]+)", figures("durability.md", "on the disk a point, 1,000,000 gauges")),
    ]:
        found = re.search(pattern, table)
        assert found and 0.8 < float(found.group(1)) / measured < 1.25, pattern
    waited_for = 1e6 / figures("compare.md", "put, 50 clients, pipeline 1")
    in_pipelines = 1e6 / figures("compare.md", "put, 10 clients, pipeline 100")
    assert "100,000 each waited for, a million in pipelines of 100" in table
    assert 0.5 < waited_for / 1e5 < 2 and 0.5 < in_pipelines / 1e6 < 2


def test_the_client_s_commands(tmp_path: Path) -> None:
    (commands,) = [block.splitlines() for block in blocks("The client's commands")]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    with running() as server:
        said = b""
        for command in commands:
            command = command.replace("python3", sys.executable).replace(
                "metricsd.client", f"metricsd.client --port {server.address[1]}"
            )
            run = {"shell": True, "cwd": str(tmp_path), "env": environment}
            said += subprocess.check_output(command, **run)  # type: ignore[call-overload]
    assert said.count(b"cpu") == 2  # as a row, and as a key


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_moving_to_another_server() -> None:
    (command,) = blocks("Grow past one machine")
    with running() as old, running() as new, Conversation(old.address) as talk:
        talk.ask(b"put a 1.5 1\nput b nan 2\nput a 0.1 3\n", 3)
        for port, server in (("8888", old), ("8889", new)):
            command = command.replace(port, str(server.address[1]))
        command = command.replace("python3", sys.executable)
        subprocess.check_call(["bash", "-o", "pipefail", "-c", command], cwd=str(ROOT))
        with Conversation(new.address) as moved:
            assert moved.ask(b"get *\n") == talk.ask(b"get *\n")
