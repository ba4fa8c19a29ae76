"""The short form of bench/torture.py: every scenario in small, as a user runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

import metricsd

ROOT = Path(metricsd.__file__).parent.parent

# So small that the whole takes seconds; the stopping that waits for STOP_SECONDS is in test_server.
PROGRAM = """
import sys
import scenarios, torture
torture.QUICK = scenarios.Size(
    connections=100, sleepers=60, storm=50, hold_seconds=1.0, probes=200, session_fuzz=2000,
    socket_fuzz=500, offsets=30, fault_uses=0, soak_seconds=1.0,
    burst_series=40, burst_blocks=40, sweep_clients=20, new_series=3000,
    kills=3, flips=10,
)
sys.argv[1:] = ["--quick", "--json", "--only", sys.argv[1]]
sys.exit(torture.main())
"""


SCENARIOS = [
    "connections", "descriptors", "max-connections", "readers", "putters", "endless-lines",
    "drip", "offsets", "storms", "session-fuzz", "socket-fuzz", "browser", "soak",
    "late-points", "aligned-seals", "idle-sweep", "new-series",
    "kills", "flips", "cuts",
]  # fmt: skip


@pytest.fixture(scope="module", name="running_scenarios")
def _running_scenarios() -> Iterator[Dict[str, "subprocess.Popen[bytes]"]]:
    """All of them at once: they mostly wait."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name],
            cwd=str(ROOT / "bench"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in SCENARIOS
    }
    yield processes
    for process in processes.values():
        with process:
            process.kill()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_in_small(
    name: str, running_scenarios: Dict[str, "subprocess.Popen[bytes]"]
) -> None:
    """Every bound is kept but those on others' latency: here all run beside each other."""
    said, log = running_scenarios[name].communicate(timeout=50)
    (scenario,) = json.loads(said.decode())
    assert scenario["name"] == name
    assert scenario["findings"], log
    for finding in scenario["findings"]:
        assert finding["held"] or re.search("p99|another's wait", finding["what"]), finding


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
