"""The short form of bench/simulate.py: some seeds, one seed twice, and lines taken out."""

import subprocess
import sys
from pathlib import Path
from typing import Tuple

import pytest

import metricsd

ROOT = Path(metricsd.__file__).parent.parent

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the simulated disk is full by a limit of Linux"
)


def simulate(*options: str) -> Tuple[int, str]:
    """Exit code and output."""
    process = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "simulate.py"), "--jobs", "1", *options],
        stdout=subprocess.PIPE,
        timeout=50,
    )
    return process.returncode, process.stdout.decode()


def test_every_promise_is_kept() -> None:
    code, said = simulate("--seeds", "30")
    assert "30 runs from seed 0 on" in said
    assert code == 0, said


def test_the_seeds_that_have_failed_once() -> None:
    code, said = simulate("--known")
    assert code == 0, said


@pytest.mark.parametrize("seed", ["2", "9"])
def test_a_seed_is_the_same_run_byte_for_byte(seed: str) -> None:
    code, said = simulate("--seed", seed, "--trace")
    assert code == 0, said[-500:]
    assert "committed" in said or "put" in said
    assert simulate("--seed", seed, "--trace") == (code, said)


def test_a_run_does_not_depend_on_those_before_it() -> None:
    program = """
import sys
sys.path.insert(0, "bench")
from simulate import run_seed
seeds = list(range(100, 112))
forth = [run_seed(seed) for seed in seeds]
back = [run_seed(seed) for seed in reversed(seeds)]
print([seed for seed, _ in forth if dict(forth)[seed] != dict(back)[seed]])
"""
    said = subprocess.check_output([sys.executable, "-c", program], cwd=str(ROOT), timeout=50)
    assert said == b"[]\n"


@pytest.mark.parametrize(
    "name", ["a wake that is lost", "a pending put that is seen", "what was put is not saved"]
)
def test_a_line_that_is_missing_is_found(name: str) -> None:
    code, said = simulate("--mutations", name)
    assert code == 0, said
    assert name in said


def test_the_lines_of_mutations_are_there() -> None:
    """Each of those that are listed; of one that is not there it is said."""
    program = """
import sys
sys.path.insert(0, "bench")
from simulation.mutations import MUTATIONS, Mutation
from metricsd.loop.waker import Waker
for mutation in MUTATIONS:
    with mutation.made():
        pass
print("all of them")
with Mutation("none", Waker, "call", "a line that is not there").made():
    pass
"""
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=20,
    )
    said = process.stderr.decode()
    assert (process.stdout, process.returncode) == (b"all of them\n", 1), said
    assert "is not once in Waker.call" in said and said.count("\n") == 1


def test_the_shortest_script_that_still_fails(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    missing = "a wake that is lost"
    code, said = simulate("--without", missing, "--seeds", "100", "--shrink", "--page", str(path))
    (left,) = [line for line in said.splitlines() if line.startswith("what is left: ")]
    assert code == 1
    assert 1 <= left.count(",") + 1 < 20
    assert '"A promise is broken"' in path.read_text(encoding="utf-8")
    assert simulate("--without", "no such line", "--seeds", "1")[0] != 0


def test_a_run_as_a_page(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    assert simulate("--seed", "2", "--page", str(path))[0] == 0
    text = path.read_text(encoding="utf-8")
    assert '"c1 connects"' in text and "</html>" in text
