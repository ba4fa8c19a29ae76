"""The load benchmark as a user runs it, and the comparison in small."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

import metricsd
from metricsd import Server
from tests.bench_scripts import BENCH, imported, run
from tests.beside import Beside, Forks
from tests.conversation import Conversation, free_port
from tests.test_command_line import started

ROOT = Path(metricsd.__file__).parent.parent
LOAD = [sys.executable, str(BENCH / "load.py")]


def load(port: int, *options: str) -> Tuple[int, Dict[str, Any], str]:
    """Exit code, figures and standard error of one run."""
    process = subprocess.run(
        [*LOAD, "--port", str(port), "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=50,
    )
    figures = json.loads(process.stdout.decode() or "{}")
    return process.returncode, figures, process.stderr.decode()


COMPARISON = """
import sys
import compare, machine, servers
compare.pin = servers.pin = lambda *_: None
machine.LOOK_SECONDS = 0.1
compare.QUICK = compare.Settings(1, 0.05, 2000, series=5, series_points=100, others_seconds=0.1)
compare.FIRST_ASKED_KEYS = compare.GROWING_KEYS = compare.GROWN = 10
found = [peer for peer in servers.peers() if peer.name in ("metricsd", "asyncio", "blocking")]
missing = servers.Peer("other", [], missing="get it somewhere")
compare.peers = lambda: found + [missing]
sys.argv[1:] = ["--quick", "--out", sys.argv[1]]
sys.exit(compare.main())
"""

DURABILITY = """
import sys
import durability, machine, servers
durability.pin = servers.pin = lambda *_: None
machine.LOOK_SECONDS = 0.1
durability.QUICK = durability.Settings(1, 0.05, (2000,), rewritten=5000, new_points=20000)
durability.OTHERS_SECONDS = 0.1
durability.SETTLING_SECONDS = 0.1
durability.CHECKPOINT_ROUNDS = 1
found = durability.servers()[:4]
missing = servers.Peer("other", [], missing="get it somewhere")
durability.servers = lambda: [*found, missing]
sys.argv[1:] = ["--quick", "--out", sys.argv[1]]
sys.exit(durability.main())
"""


INSTRUCTIONS = """
import os, sys
import instructions, stages
os.environ["PATH"] = sys.argv[1] + os.pathsep + os.environ["PATH"]
instructions.REQUESTS = 800
sys.argv[1:] = ["--instructions"]
sys.exit(stages.main())
"""

MEMORY = """
import sys
import memory
sys.argv[1:] = ["--only", "metricsd", "--series", "20", "--points", "50"]
sys.exit(memory.main())
"""

STAGES = """
import sys
import stages
stages.TURNS, stages.CONNECTIONS = 3, 5
del sys.argv[1:]
sys.exit(stages.main())
"""

# A stand-in, as valgrind takes a minute: every other run counts more.
VALGRIND = """#!/bin/sh
runs=$(dirname $0)/runs
echo >>$runs
counts=${2#--callgrind-out-file=}
echo "summary: $(($(wc -l <$runs) % 2 * 13600 + 5000))" >$counts
shift 2; exec "$@"
"""

# Each is run as a script, with its own folder in the path, by a process that has imported none of
# them, but what takes longest of what they import.
HELP = """
import argparse, json, logging, multiprocessing, pathlib, runpy, socket, sqlite3, ssl, tempfile
import unittest.mock
def main():
    script = sys.argv.pop(1)
    os.chdir(folder)
    sys.path[0] = os.path.dirname(script)
    sys.argv = [script, "--help"]
    runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="session", name="in_small")
def _in_small(tmp_path_factory: Any) -> Iterator[Dict[str, Beside]]:
    """Long ones, which run beside the other tests: what they measure is not looked at."""
    programs = {
        "comparison": COMPARISON, "durability": DURABILITY, "instructions": INSTRUCTIONS,
        "memory": MEMORY, "stages": STAGES,
    }  # fmt: skip
    folders = {name: tmp_path_factory.mktemp(name) for name in programs}
    valgrind = folders["instructions"] / "valgrind"
    valgrind.write_text(VALGRIND, encoding="utf-8")
    valgrind.chmod(0o700)
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(Beside(program, folders[name]))
            for name, program in programs.items()
        }


@pytest.fixture(scope="session", name="asking_for_help")
def _asking_for_help(tmp_path_factory: Any) -> Iterator[Forks]:
    scripts = {
        script.name: [str(script)]
        for script in sorted(BENCH.glob("*.py"))
        if "ArgumentParser" in script.read_text(encoding="utf-8")
    }
    with Forks(HELP, tmp_path_factory.mktemp("elsewhere"), scripts) as asking:
        yield asking


@pytest.fixture(scope="session", name="helps")
def _helps(asking_for_help: Forks) -> Dict[str, str]:
    """What each script says to --help in another directory."""
    return {name: printed for name, (_, printed, _) in asking_for_help.outcomes().items()}


@pytest.mark.usefixtures("in_small", "asking_for_help")  # which run meanwhile
@pytest.mark.parametrize("mix", ["put", "get", "mixed", "grown"])
@pytest.mark.parametrize("pipeline", [1, 7])
def test_all_replies_are_counted_and_right(server: Server, mix: str, pipeline: int) -> None:
    options = ["--clients", "3", "--mix", mix, "--pipeline", str(pipeline), "--keys", "5"]
    code, figures, _ = load(server.address[1], *options, "--requests", "700", "--points", "20")
    assert code == 0
    assert figures["requests"] == 700
    assert figures["wrong"] == 0
    assert figures["loop"] == "closed"
    with Conversation(server.address) as client:
        rows = client.ask(b"get *\n").count(b"\n") - 2
    stored = {"put": 700, "get": 3 * 20, "mixed": 350 + 3 * 20, "grown": 700 + 3 * 20}[mix]
    assert abs(rows - stored) <= 3 * pipeline  # a mixed load ends anywhere in its cycle


def test_figures(server: Server) -> None:
    options = [
        "--requests",
        "2000",
        "--clients",
        "4",
        "--processes",
        "2",
        "--pid",
        str(os.getpid()),
    ]
    code, figures, _ = load(server.address[1], *options)
    assert code == 0
    latencies = [figures[name] for name in ("p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "worst_ms")]
    assert latencies == sorted(latencies)
    assert latencies[0] > 0
    assert figures["requests"] == 2000
    both = figures["server_user_us"] + figures["server_system_us"]
    assert figures["server_cpu_us"] == pytest.approx(both, abs=0.002)


def test_few_requests_for_many_processes(server: Server) -> None:
    options = ["--clients", "3", "--processes", "3", "--pipeline", "5", "--requests", "7"]
    code, figures, _ = load(server.address[1], *options)
    assert code == 0
    assert figures["requests"] == 10


def test_seconds(server: Server) -> None:
    code, figures, _ = load(server.address[1], "--seconds", "0.3")
    assert code == 0
    assert 0.3 <= figures["seconds"] < 2


def test_a_stopped_server_shows_in_the_percentiles_of_a_fixed_rate() -> None:
    """A third of the time nothing is answered, so the p90 of what was due is a long wait."""
    with started() as (process, port), Conversation(("127.0.0.1", port)) as watcher:

        def stop_for_a_while() -> None:
            while watcher.ask(b"get *\n") == b"ok\n\n":
                pass  # the load has not begun
            process.send_signal(signal.SIGSTOP)
            threading.Event().wait(0.3)
            process.send_signal(signal.SIGCONT)

        stopping = threading.Thread(target=stop_for_a_while)
        stopping.start()
        code, figures, _ = load(port, "--rate", "1000", "--seconds", "0.9", "--clients", "5")
        stopping.join()
    assert code == 0
    assert figures["requests"] == 900
    assert figures["loop"] == "open"
    assert 210 < figures["worst_ms"] < 3000
    assert figures["p90_ms"] > 90
    # On a busy machine the pause is longer than it should be, but those due before it had no wait.
    assert figures["p50_ms"] < figures["worst_ms"] / 2


def test_a_fixed_rate_has_the_same_number_of_requests_whenever_it_begins() -> None:
    load = imported("load")
    job = load.Job(rate=1000.0, seconds=3.0)
    for started_at in (0.0, 0.1, 12345.678, 987654.321):
        schedule = load._Schedule(job, started_at)
        taken = 0
        while schedule.next_due(started_at) is not None:
            schedule.take()
            taken += 1
        assert taken == 3000


def test_who_loads_a_server_that_is_in_use_is_warned(server: Server) -> None:
    options = ("--requests", "100", "--clients", "2")
    for _ in range(2):  # the second time the first one's keys are there
        code, _, said = load(server.address[1], *options)
        assert (code, said) == (0, "")
    with Conversation(server.address) as client:
        assert client.ask("put größe 1 1\n".encode()) == b"ok\n\n"
    code, _, said = load(server.address[1], *options)
    assert code == 0
    assert "holds other keys, such as 'größe'" in said
    assert said.count("\n") == 1


def test_a_load_that_is_no_number_says_what_it_takes() -> None:
    _, said = run("load", "--clients", "0")
    assert said.endswith("argument --clients: takes a whole number of at least 1, not '0'\n")


@pytest.mark.waits
def test_the_scripts_run_from_any_directory(helps: Dict[str, str]) -> None:
    assert len(helps) > 5
    for script, said in helps.items():
        assert said.startswith("usage: " + script)


@pytest.mark.waits
def test_the_commands_of_the_texts_are_there(helps: Dict[str, str]) -> None:
    texts = [ROOT / "README.md", BENCH / "README.md"]
    text = "".join(path.read_text(encoding="utf-8") for path in texts)
    commands = set(re.findall(r"python3 bench/(\w+\.py)((?: [\w./-]+)*)", text))
    assert len(commands) >= 4
    for script, arguments in commands:
        assert (BENCH / script).exists()
        options = re.findall(r"--[a-z-]+", arguments)
        assert all(option in helps.get(script, "") for option in options)


def test_no_server_is_one_clear_line() -> None:
    code, _, said = load(free_port())
    assert code == 1
    assert said.startswith("load: no server at 127.0.0.1:")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        (b"ok\n\n" * 9 + b"error\nwrong command\n\n", "1 wrong replies"),
        (b"ok\nk 1.0 1\n\n" + b"ok\n\n" * 9, "1 wrong replies"),
        (b"-ERR unknown command\r\n", "no reply of a metrics server"),
        (b"ok\n\n" * 11, "1 wrong replies"),
        (b"", "closed the connection"),
    ],
)
def test_a_wrong_server_is_one_clear_line(replies: bytes, message: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)

        def serve() -> None:
            for said in (b"ok\n\n", replies):  # the first one asks whether there are other keys
                client, _ = listening.accept()
                with client:
                    client.recv(65536)
                    client.sendall(said)
                    if said:
                        client.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        options = ["--clients", "1", "--pipeline", "10", "--requests", "10"]
        code, _, said = load(listening.getsockname()[1], *options)
        thread.join()
    assert code == 1
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "options", [["--clients", "0"], ["--rate", "-1"], ["--seconds", "x"], ["--processes", "99"]]
)
def test_a_bad_option_is_refused(options: List[str]) -> None:
    code, said = run("load", *options)
    assert code == 2
    assert "Traceback" not in said
    assert options[0] in said.splitlines()[-1]
    assert "positive" not in said


def rounds(*figures: float) -> List[Dict[str, float]]:
    return [{"server_cpu_us": figure} for figure in figures]


def test_a_load_too_short_for_the_clock_has_no_ratio() -> None:
    tables = imported("tables")
    assert tables.ratio(rounds(1.0, 3.0), rounds(0.0, 2.0), tables.CPU) == 1.5
    row = {"metricsd": rounds(1.0), "other": rounds(0.0)}
    assert tables._cell(row, "other", tables.CPU) == "0"


def test_a_ratio_is_of_rounds_and_how_far_they_lie_apart_stands_beside_it() -> None:
    """The machine got slower by the half: both servers' figures did, the ratio did not."""
    tables = imported("tables")
    row = {"metricsd": rounds(10.0, 11.0, 15.0), "other": rounds(8.0, 8.8, 12.0)}
    assert tables._cell(row, "metricsd", tables.CPU) == "**11** ±23 %"
    assert tables._cell(row, "other", tables.CPU) == "8.8 ±23 % (1.25)"
    assert [*tables.warnings({"warnings": ["busy"], "results": {"put": row, "get": row}})] == [
        "busy",
        "the rounds lie apart by more than ±10 % in put (metricsd ±23 %); get (metricsd ±23 %)",
    ]


def test_unfavourable_rows_are_named() -> None:
    tables = imported("tables")
    better = {"metricsd": rounds(1.0), "other": rounds(1.0)}
    worse = {"metricsd": rounds(1.2), "other": rounds(1.0), "third": rounds(2.0)}
    every = {"metricsd": [{"all_cpu_seconds": 3.0}], "other": [{"all_cpu_seconds": 2.0}]}
    said = tables._unfavourable({"put": better, "get": worse}, every, "everything")
    assert said == "Unfavourable are 2 of 3 rows: get (other 1.20); everything (other 1.50)."
    said = tables._unfavourable({"put": better}, {"metricsd": []}, "everything")
    assert said == "No row is unfavourable."


def test_a_busy_machine_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system has counted for its processors is told here: first half of it is idle."""
    machine = imported("machine")
    counted = iter([(100, 200), (104, 208), (100, 200), (199, 300)])
    monkeypatch.setattr(machine, "_processor_times", lambda: next(counted))
    monkeypatch.setattr(machine, "LOOK_SECONDS", 0)
    said: List[str] = []
    (warning,) = machine.look_around(said.append)
    assert said[0].startswith("warning: the machine was busy when this began: 50 % of its")
    assert warning in said[0]
    assert machine.look_around(said.append) == []
    assert len(said) == 1


@pytest.mark.parametrize("options", [["--series", "0"], ["--only", "nobody"]])
def test_memory_of_nothing_is_refused(options: List[str]) -> None:
    code, said = run("memory", *options)
    assert code == 2
    assert "Traceback" not in said


def test_without_valgrind_there_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("stages", "--instructions") == (0, "")
    assert capsys.readouterr().out == (
        "no instructions: valgrind is missing (Debian: apt-get install valgrind)\n"
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (["--only", "nothing"], "--only: there are put, 1 client, pipeline 1; "),
        (
            ["--only", "put, 1 client, pipeline 1", "--out", "x"],
            "--out: tables are of all the work",
        ),
        (["--rounds", "0"], "--rounds: takes a whole number of at least 1, not '0'"),
    ],
)
def test_a_comparison_of_nothing_is_refused(options: List[str], message: str) -> None:
    code, said = run("compare", *options)
    assert code == 2
    assert message in said.splitlines()[-1]


@pytest.mark.waits
def test_the_comparison_in_small(in_small: Dict[str, Beside]) -> None:
    """Every step of bench/compare.py with our server and two peers, for a moment each."""
    table, said = in_small["comparison"].outcome()
    folder = in_small["comparison"].folder
    assert "other skipped: get it somewhere" in said
    assert "| server CPU a request, us | metricsd | asyncio | blocking |" in table
    assert "| put, 50 clients, pipeline 1 | **" in table
    for kind in ("unchanged", "grown by one point since", "first asked"):
        assert re.search(rf"\| get of 1,000 points, {kind} \| \*\*[\d.]+\*\* \| [\d.]+ \(", table)
    assert re.search(r"## One client reads everything: 2,000 points\n\n.*\n.*\n\| MB \|", table)
    assert re.search(r"Unfavourable are \d+ of 8 rows: |No row is unfavourable\.", table)
    assert "## Resident memory a point in bytes\n\n5 series of 100 points:" in table
    assert re.search(r"\| counters \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", table)
    assert (folder / "compare.md").read_text(encoding="utf-8").strip() == table.strip()
    assert json.loads((folder / "compare.json").read_text(encoding="utf-8"))["peers"]
    assert (folder / "cpu.svg").exists() or "matplotlib is not installed" in said
    assert said.splitlines()[-1].startswith("next: python3 bench/quote.py")


@pytest.mark.waits
def test_what_durability_costs_in_small(in_small: Dict[str, Beside]) -> None:
    """Every step of bench/durability.py with our server alone, for a moment each."""
    table, said = in_small["durability"].outcome()
    assert "other skipped: get it somewhere" in said
    for name in ("none", "never", "everysec", "always"):
        assert re.search(rf"\| 50 clients, pipeline 1 \| metricsd, {name} \| [\d,]+ \|", table)
    for how in ("killed", "closed"):
        assert re.search(rf"\| start with 2,000 points, {how} \| [\d.]+ s \|", table)
    assert re.search(r"\| on the disk a point, 20,000 gauges \| [\d.]+ bytes \|", table)
    for where in ("and saved", "in memory"):
        assert re.search(rf"p99.9 while .* put {where}, .* \| [\d.]+ ms \([\d. -]+\) \|", table)
    assert "## Puts\n" in table and "## Starts, sizes and waits\n" in table
    written = in_small["durability"].folder / "durability.md"
    assert written.read_text(encoding="utf-8").strip() == table.strip()


@pytest.mark.waits
def test_instructions_are_the_difference_of_two_runs(in_small: Dict[str, Beside]) -> None:
    said, _ = in_small["instructions"].outcome()
    assert said.count(" | 17 |\n") == said.count("client") == 4


@pytest.mark.waits
def test_memory_by_itself(in_small: Dict[str, Beside]) -> None:
    said, _ = in_small["memory"].outcome()
    assert len(re.findall(r"^\| [a-z ]+ \| [\d.]+ \|$", said, re.MULTILINE)) == 3


@pytest.mark.waits
def test_the_stages_of_a_put_in_small(in_small: Dict[str, Beside]) -> None:
    said, _ = in_small["stages"].outcome()
    assert len(re.findall(r"^\| [\w, ]+ (?:\| -?\d+\.\d\d ){3}\|$", said, re.MULTILINE)) == 6
    assert re.search(r"^\| \*\*all\*\* (?:\| \*\*\d+\.\d\d\*\* ){3}\|$", said, re.MULTILINE)
