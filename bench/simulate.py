"""Run the real server in a simulated world, in which everything comes from one whole number.

    python3 bench/simulate.py --seeds 1000
    python3 bench/simulate.py --seed 7 --trace
    python3 bench/simulate.py --seed 7 --shrink
    python3 bench/simulate.py --seed 7 --page run.html
    python3 bench/simulate.py --mutations
    python3 bench/simulate.py --without "a wake that is lost" --seeds 1000 --shrink

A run that breaks a promise is printed with its seed, and the exit code is 1. The same seed gives
the same run, byte for byte, as long as neither the server nor the world changes.
"""

import argparse
import contextlib
import gc
import multiprocessing
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Generator, Iterable, List, Optional, Tuple

from simulation.mutations import MUTATIONS, Mutation
from simulation.script import Script, write
from simulation.telling import NOBODY, Recorded, Teller, Traced
from simulation.world import Report, World

from metricsd.walkthrough.__main__ import page

# Seeds in which a promise was broken once, each with what it was.
KNOWN = Path(__file__).resolve().parent / "simulation" / "seeds.txt"

MUTATION_SEEDS = 1000  # in which each mutation has to be found
MEMORY = "/dev/shm"  # a folder in memory, where there is one
PROGRESS_SECONDS = 5.0


def run(script: Script, teller: Teller = NOBODY) -> Report:
    """Play a script in a world of its own."""
    folder = MEMORY if os.path.isdir(MEMORY) else None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return World(script, Path(place), teller).run()


def run_seed(seed: int) -> Tuple[int, Report]:
    """Play the script of a seed, and say of which."""
    return seed, run(write(seed))


def run_all(seeds: Iterable[int], jobs: int) -> Generator[Tuple[int, Report], None, None]:
    """Play the scripts of seeds, in several processes, and yield what comes of each in order."""
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.Pool(jobs, gc.disable) as pool:
        yield from pool.imap(run_seed, seeds, chunksize=10)


def run_many(seeds: List[int], jobs: int, shrinking: bool, out: Optional[str]) -> int:
    """Run seeds until a promise is broken, and look into that one; return the exit code."""
    started = said = time.monotonic()
    reports = run_all(seeds, jobs)
    for count, (seed, report) in enumerate(reports, 1):
        now = time.monotonic()
        if report.broken:
            print(f"seed {seed}: {report.broken}")
            if shrinking:
                reports.close()  # nobody looks any more at the seeds that others run meanwhile
                return run_one(seed, False, True, out)
            print(f"the same again with --shrink shows how, or with --seed {seed}")
            return 1
        if now > said + PROGRESS_SECONDS:
            said = now
            print(f"{count} runs, {count / (now - started):.0f} a second", file=sys.stderr)
    rate = len(seeds) / (time.monotonic() - started)
    print(f"{len(seeds)} runs from seed {seeds[0]} on, {rate:.0f} a second: every promise kept")
    return 0


def run_one(seed: int, trace: bool, shrinking: bool, out: Optional[str]) -> int:
    """Run one seed and say what comes of it; return the exit code."""
    script = write(seed)
    if shrinking:
        script = shrink(script, fails_like(run(script)))
    options = ", ".join(f"{name}={value}" for name, value in script.options.items())
    print(f"seed {seed}: {options}")
    if shrinking:
        print("what is left: " + ", ".join(f"{kind} {number}" for kind, number in script.actions))
    if out is not None:
        recorded = Recorded(f"Seed {seed}")
        report = run(script, recorded)
        recorded.end(report.broken)
        Path(out).write_text(page(recorded.recording), encoding="utf-8")
    else:
        report = run(script, Traced(sys.stdout) if trace or shrinking else NOBODY)
    print(f"{report.steps} steps, {report.starts} starts; all bytes sum up to {report.digest:08x}")
    print(report.broken or "every promise kept")
    return 1 if report.broken else 0


def shrink(script: Script, fails: Callable[[Script], bool]) -> Script:
    """The shortest script found that still fails: parts are taken out, large ones first."""
    actions = script.actions
    size = len(actions) // 2
    while size:
        start = 0
        while start < len(actions):
            fewer = actions[:start] + actions[start + size :]
            if fails(Script(script.options, fewer)):
                actions = fewer
            else:
                start += size
        size //= 2
    return Script(script.options, actions)


def fails_like(report: Report) -> Any:
    """A function that tells whether a script breaks the same promise, whoever it was made to."""

    def promise(broken: str) -> str:
        return re.sub(r"\d+", "", broken.split(":")[0])

    return lambda script: promise(run(script).broken) == promise(report.broken) != ""


def mutation(name: str) -> Mutation:
    """The one of that name."""
    for one in MUTATIONS:
        if one.name == name:
            return one
    sys.exit(f"there is no mutation {name!r}; bench/simulation/mutations.py has them")


def find(number: int) -> Tuple[int, str]:
    """The first seed that finds a mutation, or -1, and the promise that is broken."""
    with MUTATIONS[number].made():
        for seed in range(MUTATION_SEEDS):
            report = run(write(seed))
            if report.broken:
                return seed, report.broken
    return -1, ""


def find_mutations(name: str, jobs: int) -> int:
    """Print as a table which seed finds which mutation; return the exit code."""
    numbers = [n for n, one in enumerate(MUTATIONS) if name in ("all", one.name)]
    for number in numbers:
        with MUTATIONS[number].made():
            pass  # it can be made; a process of the pool could not say that it can't
    print("| mutation | in | seed | the promise that it breaks |\n|---|---|---:|---|")
    missed = 0
    with multiprocessing.Pool(jobs, gc.disable, maxtasksperchild=1) as pool:
        for number, (seed, broken) in zip(numbers, pool.imap(find, numbers)):
            one = MUTATIONS[number]
            place = f"`{one.owner.__name__}.{one.method}`"
            missed += seed < 0
            told = f"{seed} | {broken[:90]}" if seed >= 0 else "none | **not found**"
            print(f"| {one.name} | {place} | {told} |", flush=True)
    return 1 if missed or not numbers else 0


def known_seeds() -> List[int]:
    """Those in which a promise was broken once."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line and line[0] != "#"]


def options(arguments: Optional[List[str]] = None) -> Any:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", type=int, metavar="N", help="run so many seeds")
    what.add_argument("--known", action="store_true", help="run the seeds that have failed once")
    what.add_argument("--seed", type=int, metavar="N", help="run this one")
    what.add_argument(
        "--mutations", nargs="?", const="all", metavar="NAME", help="take lines out of the server"
    )
    parser.add_argument("--without", metavar="NAME", default="",
                        help="with a mutation made: its name, as --mutations lists it")  # fmt: skip
    parser.add_argument("--first", type=int, metavar="N", default=0, help="with --seeds: from here")
    parser.add_argument("--new", action="store_true", help="with --seeds: from the time of day")
    parser.add_argument("--jobs", type=int, metavar="N", default=os.cpu_count() or 1,
                        help="processes (one for each processor)")  # fmt: skip
    parser.add_argument("--trace", action="store_true", help="with --seed: tell each step")
    parser.add_argument("--shrink", action="store_true",
                        help="find the shortest script that still fails")  # fmt: skip
    parser.add_argument("--page", metavar="OUT.html", help="write a page that plays it")
    found = parser.parse_args(arguments)
    if found.seeds is not None and found.seeds < 1:
        parser.error("--seeds takes a whole number of at least 1")
    return found


def do(asked: Any) -> int:
    """Do what is asked for; return the exit code."""
    if asked.seed is not None:
        return run_one(asked.seed, asked.trace, asked.shrink, asked.page)
    if asked.mutations is not None:
        return find_mutations(asked.mutations, asked.jobs)
    if asked.known:
        return run_many(known_seeds(), asked.jobs, asked.shrink, asked.page)
    first = int(time.time()) if asked.new else asked.first
    seeds = list(range(first, first + asked.seeds))
    return run_many(seeds, asked.jobs, asked.shrink, asked.page)


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    asked = options()
    gc.disable()  # a run leaves circles; where it matters, processes come and go
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        if asked.without:
            stack.enter_context(mutation(asked.without).made())
        return do(asked)
    return 130


if __name__ == "__main__":
    sys.exit(main())
