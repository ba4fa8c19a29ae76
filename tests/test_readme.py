"""What the README says is so: its commands run, its dialogue happens, its tables are complete."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import pytest

import metricsd
from metricsd import server
from metricsd.durable import store
from metricsd.graphite import limits
from metricsd.loop import connection, endpoints
from metricsd.protocol import outcomes, replies, rows
from metricsd.store import archive, late, put_each
from tests.conftest import running
from tests.conversation import Conversation, connect, free_port
from tests.test_command_line import started
from tests.test_layers import READING_LIST

ROOT = Path(metricsd.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "metricsd" / "OPERATING.md").read_text(encoding="utf-8")
WALKTHROUGH = (ROOT / "metricsd" / "WALKTHROUGH.md").read_text(encoding="utf-8")
LONGEST_README = 150  # lines


def blocks(language: str) -> List[str]:
    return re.findall(f"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_first_command_serves() -> None:
    command = blocks("sh")[0].split()
    assert command == ["python3", "-m", "metricsd"]
    with started(command=[sys.executable, *command[1:]]) as (_, port), connect(port) as client:
        assert client.ask(b"get k\n") == b"ok\n\n"


def test_the_second_command_is_the_one_that_runs_these_tests() -> None:
    """.ci/run takes it from the README; this is what that depends on."""
    command = blocks("sh")[1]
    assert re.match(r"python3 -m venv .*pytest", command)
    assert command.count("\n") == 1
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_dialogue(server: metricsd.Server) -> None:
    parts = re.split(r"^> (.*)\n", blocks("text")[0], flags=re.MULTILINE)
    with Conversation(server.address) as client:
        for request, reply in zip(parts[1::2], parts[2::2]):
            assert client.ask(request.encode() + b"\r\n").decode() == reply  # as telnet sends it


def test_the_python_examples() -> None:
    (client,) = blocks("python")
    embedded = re.findall("```python\n(.*?)```", OPERATING, re.DOTALL)[0]
    imported, called = re.findall(
        r"`(from metricsd import run_server)` and `(run_server\(.*\))`", README
    )[0]
    port = free_port()
    program = f"{imported}\n{called}".replace("8888", str(port))
    threading.Thread(target=exec, args=(program, {}), daemon=True).start()
    connect(port).socket.close()
    said = subprocess.check_output(
        [sys.executable, "-c", client.replace("8888", str(port))], cwd=str(ROOT)
    )
    assert said.decode().strip() == re.findall(r"print.*# (.*)", client)[0]
    strictly = [sys.executable, "-X", "dev", "-W", "error", "-c"]  # it leaves no socket open
    process = subprocess.run([*strictly, embedded], cwd=str(ROOT), stderr=subprocess.PIPE)
    assert (process.returncode, process.stderr) == (0, b"")
    for example in (client, embedded):
        assert len([line for line in example.splitlines() if line]) <= 5


def test_the_one_file_command(tmp_path: Path) -> None:
    command = re.findall(r"`python3 (-m metricsd.onefile \S+)`", README)[0].split()
    path = tmp_path / command.pop()
    subprocess.check_call([sys.executable, *command, str(path)], cwd=str(ROOT))
    assert "def run_server" in path.read_text(encoding="utf-8")


def test_the_walkthrough_command(tmp_path: Path) -> None:
    command = re.findall(r"`python3 (-m metricsd.walkthrough \S+)`", README)[0].split()
    path = tmp_path / command.pop()
    subprocess.check_call([sys.executable, *command, str(path)], cwd=str(ROOT))
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_limits_are_as_the_constants_are() -> None:
    for name, value, unit in [
        ("REPLY_ROOM", outcomes.REPLY_ROOM / 1024, "KiB"),
        ("MAX_REPLY_BYTES", replies.MAX_REPLY_BYTES / 1024, "KiB"),
        ("MAX_KEPT_BYTES", replies.MAX_KEPT_BYTES / 1024**2, "MiB"),
        ("PIECE_BYTES", rows.PIECE_BYTES / 1024, "KiB"),
        ("RECEIVE_BYTES", connection.RECEIVE_BYTES / 1024, "KiB"),
        ("UNSENT_BYTES", endpoints.UNSENT_BYTES / 1024, "KiB"),
        ("STOP_SECONDS", server.STOP_SECONDS, "s"),
        ("BLOCK_POINTS", archive.BLOCK_POINTS, ""),
        ("LATE_POINTS", archive.LATE_POINTS, ""),
        ("MAX_LATE_BLOCKS", late.MAX_LATE_BLOCKS, ""),
        ("SLOW_PUTS", put_each.SLOW_PUTS, ""),
        ("LOG_BYTES", store.LOG_BYTES / 1024**2, "MiB"),
        ("MAX_TARGETS", limits.MAX_TARGETS, ""),
        ("MAX_NESTING", limits.MAX_NESTING, ""),
        ("MAX_DATA_POINTS", limits.MAX_DATA_POINTS, ""),
        ("MAX_SERIES", limits.MAX_SERIES, ""),
        ("MAX_VALUES", limits.MAX_VALUES, ""),
    ]:
        assert f"`{name}`, {value:.10g} {unit}".strip() in OPERATING


def test_it_is_short() -> None:
    assert README.count("\n") <= LONGEST_README


def test_the_maps_name_every_file_once() -> None:
    """The README those of the core, the walkthrough all others."""
    named = core_files()
    named += re.findall(r"^\| `([a-z_/]+(?:\.py|/))` \|", WALKTHROUGH, re.MULTILINE)
    package = ROOT / "metricsd"
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    there -= {name for name in there if name.endswith("__init__.py")} | {"version.py"}
    for name in list(there):
        folder = name.split("/")[0] + "/"
        if folder in named:
            there.discard(name)
    assert {name for name in named if name.endswith(".py")} == there
    assert len(named) == len(set(named))


def core_files() -> List[str]:
    """In the order in which they are to be read."""
    core = README.split("The core is read in half an hour")[1].split("\n\n")[1]
    return re.findall(r"`([a-z_/]+\.py)`", core)


def test_the_reading_order_is_that_of_the_core() -> None:
    assert core_files() == [name for name in READING_LIST if not name.endswith("__init__.py")]


def test_its_links_lead_somewhere() -> None:
    for name, anchor in re.findall(r"\]\(([\w./-]+)(?:#([\w-]+))?\)", README):
        path = ROOT / name
        assert path.exists()
        if anchor:
            titles = re.findall("^##* (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {
                re.sub("[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles
            }
            assert anchor in anchors


def test_the_benchmark_table_is_the_committed_result() -> None:
    """That it is, bench/quote.py --check tells; here: that it is small, and hides nothing."""
    speed = README.split("## How fast it is")[1].split("## What it withstands")[0]
    rows = re.findall(r"^\| (?:put|get)\b.*$", speed, re.MULTILINE)
    assert 5 <= len(rows) <= 8
    assert any(re.search(r"\([1-9]\d*\.\d\d\)", row) for row in rows)  # an unfavourable one
    for name in re.findall(r"\]\((bench/[^)#]+)", README):
        assert (ROOT / name).exists()


def test_the_torture_table_is_from_the_committed_run() -> None:
    result = (ROOT / "bench" / "results" / "torture.md").read_text(encoding="utf-8").splitlines()
    table = README.split("## What it withstands")[1].split("## Read it")[0]
    rows = [line for line in table.splitlines() if line.endswith("held |")]
    assert len(rows) == 5
    assert all(row in result for row in rows)
    assert not any("not held" in line for line in result)


@pytest.mark.parametrize("name", ["telnet", "nc"])
def test_the_programs_it_names(name: str) -> None:
    with running() as serving:
        try:
            process = subprocess.Popen(
                [name, *map(str, serving.address)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except FileNotFoundError:
            pytest.skip(f"there is no {name} here")
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"put k 1 1\nget k\n")
            process.stdin.flush()
            said = b""
            while not said.endswith(b"k 1.0 1\n\n"):
                said += process.stdout.readline()
            process.kill()
