"""The short form of bench/simulate.py: some seeds, one seed twice, and lines taken out."""

import contextlib
import sys
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from metricsd.loop.waker import Waker
from tests.bench_scripts import imported
from tests.beside import Forks

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the simulated disk is full by a limit of Linux"
)

Outcomes = Dict[str, Tuple[int, str, str]]

PREPARED = """
import simulate
def forth_and_back():
    seeds = list(range(100, 112))
    forth = [simulate.run_seed(seed) for seed in seeds]
    back = [simulate.run_seed(seed) for seed in reversed(seeds)]
    print([seed for seed, _ in forth if dict(forth)[seed] != dict(back)[seed]])
def main():
    return simulate.main() if sys.argv[1:] else forth_and_back()
"""

MISSING = ["a wake that is lost", "a pending put that is seen", "what was put is not saved"]
ONE = ["--jobs", "1"]
ONCE_MORE = {f"seed {seed}": [*ONE, "--seed", seed, "--trace"] for seed in ("2", "9")}
COMMANDS: Dict[str, List[str]] = {
    "shrunk": [
        *ONE, "--without", MISSING[1], "--seeds", "100", "--shrink", "--page", "FOLDER/shrunk.html"
    ],
    "seeds": [*ONE, "--seeds", "30"],
    "known": [*ONE, "--known"],
    **{name: [*ONE, "--mutations", name] for name in MISSING},
    "no such line": [*ONE, "--without", "no such line", "--seeds", "1"],
    "page": [*ONE, "--seed", "2", "--page", "FOLDER/page.html"],
    "forth and back": [],
    **ONCE_MORE,
}  # fmt: skip


@pytest.fixture(scope="session", name="simulating")
def _simulating(tmp_path_factory: Any) -> Iterator[List[Forks]]:
    """All runs, and some once more in a process that orders its sets and names in another way."""
    with contextlib.ExitStack() as stack:
        programs = []
        for commands in (COMMANDS, ONCE_MORE):
            folder = tmp_path_factory.mktemp("simulation")
            whole = {
                name: [word.replace("FOLDER", str(folder)) for word in words]
                for name, words in commands.items()
            }
            programs.append(stack.enter_context(Forks(PREPARED, folder, whole)))
        yield programs


@pytest.fixture(scope="session", name="outcomes")
def _outcomes(simulating: List[Forks]) -> Outcomes:
    return simulating[0].outcomes()


@pytest.fixture(scope="session", name="once_more")
def _once_more(simulating: List[Forks]) -> Outcomes:
    return simulating[1].outcomes()


@pytest.mark.usefixtures("simulating")  # which run meanwhile
def test_the_lines_of_mutations_are_there() -> None:
    """Each of those that are listed; of one that is not there it is said."""
    mutations = imported("simulation.mutations")
    for mutation in mutations.MUTATIONS:
        with mutation.made():
            pass
    missing = mutations.Mutation("none", Waker, "call", "a line that is not there")
    with pytest.raises(SystemExit, match=r"^[^\n]+ is not once in Waker\.call$"), missing.made():
        pass


@pytest.mark.waits
def test_every_promise_is_kept(outcomes: Outcomes) -> None:
    code, said, _ = outcomes["seeds"]
    assert "30 runs from seed 0 on" in said
    assert code == 0, said


@pytest.mark.waits
def test_the_seeds_that_have_failed_once(outcomes: Outcomes) -> None:
    code, said, _ = outcomes["known"]
    assert code == 0, said


@pytest.mark.waits
@pytest.mark.parametrize("seed", sorted(ONCE_MORE))
def test_a_seed_is_the_same_run_byte_for_byte(
    seed: str, outcomes: Outcomes, once_more: Outcomes
) -> None:
    code, said, _ = outcomes[seed]
    assert code == 0, said[-500:]
    assert "committed" in said or "put" in said
    assert once_more[seed][:2] == (code, said)


@pytest.mark.waits
def test_a_run_does_not_depend_on_those_before_it(outcomes: Outcomes) -> None:
    assert outcomes["forth and back"] == (0, "[]\n", "")


@pytest.mark.waits
@pytest.mark.parametrize("name", MISSING)
def test_a_line_that_is_missing_is_found(name: str, outcomes: Outcomes) -> None:
    code, said, _ = outcomes[name]
    assert code == 0, said
    assert name in said


@pytest.mark.waits
def test_the_shortest_script_that_still_fails(simulating: List[Forks], outcomes: Outcomes) -> None:
    code, said, _ = outcomes["shrunk"]
    (left,) = [line for line in said.splitlines() if line.startswith("what is left: ")]
    assert code == 1
    assert 1 <= left.count(",") + 1 < 20
    text = (simulating[0].folder / "shrunk.html").read_text(encoding="utf-8")
    assert '"A promise is broken"' in text
    assert outcomes["no such line"][0] != 0


@pytest.mark.waits
def test_a_run_as_a_page(simulating: List[Forks], outcomes: Outcomes) -> None:
    assert outcomes["page"][0] == 0
    text = (simulating[0].folder / "page.html").read_text(encoding="utf-8")
    assert '"c1 connects"' in text and "</html>" in text
