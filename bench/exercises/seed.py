"""Answer to the exercise of chapter 6: lines are taken out, and simulated runs miss them."""

import sys
from pathlib import Path
from typing import Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import simulate
from simulation.script import Script, write

NAMES = ("a wake that is lost", "the end of input is a close", "a get before its put is settled")


def shortest(name: str) -> Tuple[int, Script, str]:
    """The first seed that finds a line missing, the script that is left, and what it breaks."""
    with simulate.mutation(name).made():
        for seed in range(1000):
            report = simulate.run(write(seed))
            if report.broken:
                left = simulate.shrink(write(seed), simulate.fails_like(report))
                return seed, left, report.broken
    raise LookupError(name)


def main() -> None:
    """Find each, as it can be found again."""
    for name in NAMES:
        seed, script, broken = shortest(name)
        print(f"{name}: seed {seed}, {len(script.actions)} actions are left")
        print(f"    {broken}")


if __name__ == "__main__":
    main()
