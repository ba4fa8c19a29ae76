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
from tests.conversation import Conversation, free_port
from tests.test_command_line import started

ROOT = Path(metricsd.__file__).parent.parent
LOAD = [sys.executable, str(ROOT / "bench" / "load.py")]


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


class Started:
    """A program, and a folder to which it writes."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            cwd=str(ROOT / "bench"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def outcome(self) -> Tuple[str, str]:
        """What it prints, and what it says to standard error, once it has ended well."""
        printed, said = self.process.communicate(timeout=50)
        assert self.process.returncode == 0, said.decode()
        return printed.decode(), said.decode()


@pytest.fixture(scope="session", name="in_small")
def _in_small(tmp_path_factory: Any) -> Iterator[Dict[str, Started]]:
    """Two long ones, which run beside the other tests: what they measure is not looked at."""
    programs = {"comparison": COMPARISON, "durability": DURABILITY}
    with contextlib.ExitStack() as stack:
        started_ones = {}
        for name, program in programs.items():
            one = started_ones[name] = Started(program, tmp_path_factory.mktemp(name))
            stack.enter_context(one.process)
            stack.callback(one.process.kill)
        yield started_ones


@pytest.mark.usefixtures("in_small")  # which run meanwhile
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
    program = """
import load
job = load.Job(rate=1000.0, seconds=3.0)
for started in (0.0, 0.1, 12345.678, 987654.321):
    schedule = load._Schedule(job, started)
    taken = 0
    while schedule.next_due(started) is not None:
        schedule.take()
        taken += 1
    print(taken)
"""
    said = subprocess.check_output([sys.executable, "-c", program], cwd=str(ROOT / "bench"))
    assert said.decode().split() == ["3000"] * 4


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
    _, _, said = load(1, "--clients", "0")
    assert said.endswith("argument --clients: takes a whole number of at least 1, not '0'\n")


@pytest.fixture(scope="module", name="helps")
def _helps(tmp_path_factory: Any) -> Dict[str, str]:
    """What each script says to --help in another directory; all are started at once."""
    folder = str(tmp_path_factory.mktemp("elsewhere"))
    scripts = sorted((ROOT / "bench").glob("*.py"))
    with contextlib.ExitStack() as stack:
        processes = {
            script.name: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(script), "--help"], cwd=folder, stdout=subprocess.PIPE
                )
            )
            for script in scripts
            if "ArgumentParser" in script.read_text(encoding="utf-8")
        }
        return {name: one.communicate(timeout=20)[0].decode() for name, one in processes.items()}


def test_the_scripts_run_from_any_directory(helps: Dict[str, str]) -> None:
    assert len(helps) > 5
    for script, said in helps.items():
        assert said.startswith("usage: " + script)


def test_the_commands_of_the_texts_are_there(helps: Dict[str, str]) -> None:
    texts = [ROOT / "README.md", ROOT / "bench" / "README.md"]
    text = "".join(path.read_text(encoding="utf-8") for path in texts)
    commands = set(re.findall(r"python3 bench/(\w+\.py)((?: [\w./-]+)*)", text))
    assert len(commands) >= 4
    for script, arguments in commands:
        assert (ROOT / "bench" / script).exists()
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
    code, _, said = load(1, *options)
    assert code == 2
    assert "Traceback" not in said
    assert options[0] in said.splitlines()[-1]
    assert "positive" not in said


TABLES = """
import tables
def rounds(*figures):
    return [{"server_cpu_us": figure} for figure in figures]
"""


def of_tables(program: str) -> List[str]:
    """The lines that a program about bench/tables.py prints."""
    command = [sys.executable, "-c", TABLES + program]
    return subprocess.check_output(command, cwd=str(ROOT / "bench")).decode().splitlines()


def test_a_load_too_short_for_the_clock_has_no_ratio() -> None:
    program = """
print(tables.ratio(rounds(1.0, 3.0), rounds(0.0, 2.0), tables.CPU))
print(tables._cell({"metricsd": rounds(1.0), "other": rounds(0.0)}, "other", tables.CPU))
"""
    assert of_tables(program) == ["1.5", "0"]


def test_a_ratio_is_of_rounds_and_how_far_they_lie_apart_stands_beside_it() -> None:
    """The machine got slower by the half: both servers' figures did, the ratio did not."""
    program = """
rows = {"metricsd": rounds(10.0, 11.0, 15.0), "other": rounds(8.0, 8.8, 12.0)}
print(tables._cell(rows, "metricsd", tables.CPU))
print(tables._cell(rows, "other", tables.CPU))
print(*tables.warnings({"warnings": ["busy"], "results": {"put": rows, "get": rows}}), sep="; ")
"""
    assert of_tables(program) == [
        "**11** ±23 %",
        "8.8 ±23 % (1.25)",
        "busy; the rounds lie apart by more than ±10 % in put (metricsd ±23 %); "
        "get (metricsd ±23 %)",
    ]


def test_unfavourable_rows_are_named() -> None:
    program = """
better = {"metricsd": rounds(1.0), "other": rounds(1.0)}
worse = {"metricsd": rounds(1.2), "other": rounds(1.0), "third": rounds(2.0)}
every = {"metricsd": [{"all_cpu_seconds": 3.0}], "other": [{"all_cpu_seconds": 2.0}]}
print(tables._unfavourable({"put": better, "get": worse}, every, "everything"))
print(tables._unfavourable({"put": better}, {"metricsd": []}, "everything"))
"""
    assert of_tables(program) == [
        "Unfavourable are 2 of 3 rows: get (other 1.20); everything (other 1.50).",
        "No row is unfavourable.",
    ]


def test_a_busy_machine_is_warned_of() -> None:
    """What the system has counted for its processors is told here: first half of it is idle."""
    program = """
import machine
counted = iter([(100, 200), (104, 208)])
machine._processor_times = lambda: next(counted)
machine.LOOK_SECONDS = 0
print(machine.look_around(print))
counted = iter([(100, 200), (199, 300)])
print(machine.look_around(print))
"""
    said = of_tables(program)
    assert said[0].startswith("warning: the machine was busy when this began: 50 % of its")
    assert said[2:] == ["[]"]


def test_memory_by_itself() -> None:
    command = [sys.executable, "memory.py", "--only", "metricsd", "--series", "20"]
    said = subprocess.check_output([*command, "--points", "50"], cwd=str(ROOT / "bench")).decode()
    assert len(re.findall(r"^\| [a-z ]+ \| [\d.]+ \|$", said, re.MULTILINE)) == 3


@pytest.mark.parametrize("options", [["--series", "0"], ["--only", "nobody"]])
def test_memory_of_nothing_is_refused(options: List[str]) -> None:
    command = [sys.executable, "memory.py", *options]
    process = subprocess.run(command, cwd=str(ROOT / "bench"), stderr=subprocess.PIPE, timeout=20)
    assert process.returncode == 2
    assert b"Traceback" not in process.stderr


def test_the_stages_of_a_put_in_small() -> None:
    program = "import stages; stages.TURNS = 3; stages.CONNECTIONS = 5; stages.main()"
    said = subprocess.check_output(
        [sys.executable, "-c", program], cwd=str(ROOT / "bench"), timeout=20
    ).decode()
    assert len(re.findall(r"^\| [\w, ]+ (?:\| -?\d+\.\d\d ){3}\|$", said, re.MULTILINE)) == 6
    assert re.search(r"^\| \*\*all\*\* (?:\| \*\*\d+\.\d\d\*\* ){3}\|$", said, re.MULTILINE)


INSTRUCTIONS = "import instructions, stages; instructions.REQUESTS = 800; stages.main()"


def instructions(path: str) -> str:
    """The table of instructions, with the valgrind that is found on a path, if there is one."""
    return subprocess.check_output(
        [sys.executable, "-c", INSTRUCTIONS, "--instructions"],
        cwd=str(ROOT / "bench"),
        env=dict(os.environ, PATH=path),
        timeout=20,
    ).decode()


def test_instructions_are_the_difference_of_two_runs(tmp_path: Path) -> None:
    """With a stand-in, as valgrind takes a minute: every other run counts more."""
    program = tmp_path / "valgrind"
    program.write_text(
        "#!/bin/sh\n"
        f"echo >>{tmp_path}/runs\n"
        "counts=${2#--callgrind-out-file=}\n"
        f'echo "summary: $(($(wc -l <{tmp_path}/runs) % 2 * 13600 + 5000))" >$counts\n'
        'shift 2; exec "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o700)
    said = instructions(f"{tmp_path}:{os.environ['PATH']}")
    assert said.count(" | 17 |\n") == said.count("client") == 4


def test_without_valgrind_there_is_a_line(tmp_path: Path) -> None:
    assert instructions(str(tmp_path)) == (
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
    command = [sys.executable, "compare.py", *options]
    process = subprocess.run(command, cwd=str(ROOT / "bench"), stderr=subprocess.PIPE, timeout=20)
    assert process.returncode == 2
    assert message in process.stderr.decode().splitlines()[-1]


@pytest.mark.waits
def test_the_comparison_in_small(in_small: Dict[str, Started]) -> None:
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
def test_what_durability_costs_in_small(in_small: Dict[str, Started]) -> None:
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
