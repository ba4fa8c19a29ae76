"""The short form of bench/torture.py: every scenario in small, as a user runs it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest

import metricsd

ROOT = Path(metricsd.__file__).parent.parent

# So small that the whole takes seconds; the stopping that waits for STOP_SECONDS is in test_server.
# Each scenario has a process of its own, which need not import everything again.
PROGRAM = """
import os, sys
import adversaries, scenarios, torture
torture.QUICK = scenarios.Size(
    connections=100, sleepers=20, storm=50, hold_seconds=1.0, probes=200, session_fuzz=2000,
    socket_fuzz=500, offsets=30, fault_uses=0, soak_seconds=0.5,
    burst_series=40, burst_blocks=40, sweep_clients=20, new_series=3000,
    kills=3, flips=10,
)
scenarios.KILL_PUTS = 1000
adversaries.IDLE_SECONDS, adversaries.SWEEPS_SECONDS = 0.3, 0.1
for name in sys.argv[1:]:
    if not os.fork():
        for descriptor, end in ((1, ".json"), (2, ".log")):
            os.dup2(os.open(name + end, os.O_CREAT | os.O_WRONLY), descriptor)
        sys.argv[1:] = ["--quick", "--json", "--only", name]
        sys.exit(torture.main())
for name in sys.argv[1:]:
    os.wait()
"""


SCENARIOS = [  # those that take longest begin first
    "putters", "readers", "drip", "endless-lines", "kills", "late-points", "storms", "soak",
    "connections", "descriptors", "max-connections", "new-series", "aligned-seals", "flips",
    "idle-sweep", "socket-fuzz", "browser", "cuts", "offsets", "session-fuzz",
]  # fmt: skip


@pytest.fixture(scope="session", name="running_all")
def _running_all(tmp_path_factory: Any) -> Iterator[Tuple["subprocess.Popen[bytes]", Path]]:
    """All at once, as they mostly wait, and the folder with what each of them says and logs."""
    folder: Path = tmp_path_factory.mktemp("scenarios")
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "bench"))
    command = [sys.executable, "-c", PROGRAM, *SCENARIOS]
    with subprocess.Popen(
        command, cwd=str(folder), env=environment, start_new_session=True
    ) as process:
        try:
            yield process, folder
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.usefixtures("running_all")  # which run meanwhile
def test_the_exit_code_tells_a_bound_that_was_not_kept() -> None:
    program = """
import sys
import torture
from scenarios import Finding
def fails(size, progress):
    "A scenario that fails."
    yield Finding("what", "1", "0", False)
torture.SCENARIOS = {"fails": fails}
sys.argv[1:] = []
sys.exit(torture.main())
"""
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=str(ROOT / "bench"), stdout=subprocess.PIPE, timeout=20
    )
    assert process.returncode == 1
    assert process.stdout == b"| fails | what | 1 | 0 | **not held** |\n1 bounds not kept\n"


@pytest.mark.parametrize("options", [["--only", "nobody"], ["--frobnicate"]])
def test_a_bad_option_is_refused(options: List[str]) -> None:
    process = subprocess.run(
        [sys.executable, "torture.py", *options],
        cwd=str(ROOT / "bench"),
        stderr=subprocess.PIPE,
        timeout=20,
    )
    assert process.returncode == 2
    assert b"Traceback" not in process.stderr


@pytest.mark.waits
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_in_small(
    name: str, running_all: Tuple["subprocess.Popen[bytes]", Path]
) -> None:
    """Every bound is kept but those on others' latency: here all run beside each other."""
    process, folder = running_all
    assert process.wait(50) == 0
    (scenario,) = json.loads((folder / (name + ".json")).read_text())
    assert scenario["name"] == name
    assert scenario["findings"], (folder / (name + ".log")).read_text()
    for finding in scenario["findings"]:
        assert finding["held"] or re.search("p99|another's wait", finding["what"]), finding
