"""The short form of bench/torture.py: every scenario in small, as a user runs it."""

import json
import re
import subprocess
import sys
from typing import Any, Dict, Iterator, Tuple

import pytest

from tests.bench_scripts import BENCH
from tests.beside import Forks

# So small that the whole takes seconds; the stopping that waits for STOP_SECONDS is in test_server.
IN_SMALL = """
import adversaries, scenarios, torture
from torture import main
torture.QUICK = scenarios.Size(
    connections=100, sleepers=20, storm=50, hold_seconds=1.0, probes=200, session_fuzz=2000,
    socket_fuzz=500, offsets=30, fault_uses=0, soak_seconds=0.5,
    burst_series=40, burst_blocks=40, sweep_clients=20, new_series=3000,
    kills=3, flips=10,
)
scenarios.KILL_PUTS = 1000
adversaries.IDLE_SECONDS, adversaries.SWEEPS_SECONDS = 0.3, 0.1
"""

SCENARIOS = [  # those that take longest begin first
    "putters", "readers", "drip", "endless-lines", "kills", "late-points", "storms", "soak",
    "connections", "descriptors", "max-connections", "new-series", "aligned-seals", "flips",
    "idle-sweep", "socket-fuzz", "browser", "cuts", "offsets", "session-fuzz",
]  # fmt: skip


REFUSED = {"nobody": ["--only", "nobody"], "frobnicate": ["--frobnicate"]}


@pytest.fixture(scope="session", name="running_all")
def _running_all(tmp_path_factory: Any) -> Iterator[Forks]:
    """All at once, as they mostly wait, and with the priority of others: some have a deadline."""
    commands = {name: ["--quick", "--json", "--only", name] for name in SCENARIOS}
    folder = tmp_path_factory.mktemp("scenarios")
    with Forks(IN_SMALL, folder, {**commands, **REFUSED}, nice=0) as forks:
        yield forks


@pytest.fixture(scope="session", name="outcomes")
def _outcomes(running_all: Forks) -> Dict[str, Tuple[int, str, str]]:
    return running_all.outcomes()


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
        [sys.executable, "-c", program], cwd=str(BENCH), stdout=subprocess.PIPE, timeout=20
    )
    assert process.returncode == 1
    assert process.stdout == b"| fails | what | 1 | 0 | **not held** |\n1 bounds not kept\n"


@pytest.mark.waits
@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_option_is_refused(name: str, outcomes: Dict[str, Tuple[int, str, str]]) -> None:
    code, _, said = outcomes[name]
    assert code == 2
    assert "Traceback" not in said


@pytest.mark.waits
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_in_small(name: str, outcomes: Dict[str, Tuple[int, str, str]]) -> None:
    """Every bound is kept but those on others' latency: here all run beside each other."""
    _, printed, said = outcomes[name]
    (scenario,) = json.loads(printed)
    assert scenario["name"] == name
    assert scenario["findings"], said
    for finding in scenario["findings"]:
        assert finding["held"] or re.search("p99|another's wait", finding["what"]), finding
