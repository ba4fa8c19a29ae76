"""Whether targets mean what graphite-web 1.1.10 says they mean, on random series.

    python3 bench/oracle/compare.py --python PYTHON [--cases N] [--seed N] [--write PATH]

PYTHON is one in which graphite-web 1.1.10 is installed (.ci/run says how). Ours runs first, and
graphite-web gets the very buckets that ours has read. --write keeps the cases and graphite-web's
results, for tests/test_graphite_oracle.py.
"""

import argparse
import collections
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[0:1] = [str(HERE.parent.parent), str(HERE.parent)]

from metricsd.graphite import RenderError
from metricsd.graphite.fetch import fetch
from metricsd.graphite.render import render
from metricsd.store import Memory
from oracle.cases import Case, case, series, store_of

TOLERANCE = 1e-9  # of a value, relative: sums in another order differ in their last bits

# perSecond and others round to six places, and of two numbers on both sides of a half one goes up.
LAST_PLACE = 1.01e-6

# A function of graphite-web's that fails by itself says nothing of what its result should be.
CRASH = re.compile("(UnboundLocal|Type|Index|ZeroDivision|Attribute)Error:")

# Names of names within names may become so long that ours does not search them (OPERATING.md).
OUR_LIMIT = "RenderError: a regular expression could take too long"

# Characters of a result that is kept for the plain tests: a file of some 200 KB.
LONGEST_KEPT = 1_000


class Ours:
    """Renders, and notes what each path meant in each range."""

    def __init__(self, store: Memory) -> None:
        self._store = store
        self.given: Dict[Tuple[str, int, int], Any] = {}
        self.unclear = False  # whether one path meant two things

    def result(self, case: Case) -> Any:
        """What ours makes of a case, as the oracle writes it."""
        self.given, self.unclear = {}, False
        work = render(self._store, [case.target], case.start, case.until, case.max_data_points, 0.0)
        with mock.patch("metricsd.graphite.evaluate.fetch", self._fetch):
            try:
                while True:
                    next(work)
            except RenderError as error:
                return f"RenderError: {error}"
            except StopIteration as end:
                return [[*one] for one in end.value]

    def _fetch(self, request: Any, pattern: str, start: int, until: int, fold: str) -> Any:
        found = yield from fetch(request, pattern, start, until, fold)
        given = [
            (one.name, one.start, one.end, one.step, [_number(value) for value in one.values])
            for one in found
        ]
        self.unclear |= self.given.setdefault((pattern, start, until), given) != given
        return found


def _number(value: Optional[float]) -> Optional[float]:
    return value if value is not None and math.isfinite(value) else None


def difference(ours: Any, theirs: Any) -> str:
    """What differs; nothing if both are the same. Of errors, only that there is one."""
    if isinstance(ours, str) or isinstance(theirs, str):
        return "" if isinstance(ours, str) and isinstance(theirs, str) else "an error"
    if [one[0] for one in ours] != [one[0] for one in theirs]:
        return "names"
    for mine, other in zip(ours, theirs):
        if mine[1:4] != other[1:4]:
            return f"start, end or step of {mine[0]}"
        if mine[5] != other[5]:
            return f"tags of {mine[0]}"
        if not _alike(mine[4], other[4]):
            return f"values of {mine[0]}"
    return ""


def _alike(ours: List[Any], theirs: List[Any]) -> bool:
    if len(ours) != len(theirs):
        return False
    for mine, other in zip(ours, map(_number, theirs)):
        if (mine is None) != (other is None):
            return False
        # A difference of large numbers that are nearly equal keeps the error of these.
        if not math.isclose(mine or 0.0, other or 0.0, rel_tol=TOLERANCE, abs_tol=LAST_PLACE):
            return False
    return True


def main() -> int:
    """Compare; return how the process exits."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--python", required=True)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1, help="0: a new one")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    columns = series(chance)
    ours = Ours(store_of(columns))
    oracle = subprocess.Popen(
        [options.python, str(HERE / "web.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, universal_newlines=True,
    )  # fmt: skip
    assert oracle.stdin
    assert oracle.stdout
    counted: Dict[str, int] = collections.Counter()
    kept: List[Any] = []
    while counted["compared"] < options.cases:
        one = case(chance)
        mine = ours.result(one)
        if ours.unclear:
            continue
        given = [[*key, value] for key, value in ours.given.items()]
        asked = {"target": one.target, "start": one.start, "until": one.until, "given": given}
        print(json.dumps(asked), file=oracle.stdin, flush=True)
        theirs = json.loads(oracle.stdout.readline())
        counted["compared"] += 1
        counted["error"] += isinstance(theirs, str)
        counted["empty"] += theirs == []
        for name in set(re.findall(r"(\w+)\(", one.target)):
            counted[f"function {name}"] += 1
        if CRASH.match(str(theirs)):
            counted["crash of graphite-web"] += 1
            continue
        if str(mine).startswith(OUR_LIMIT):
            counted["limit of ours"] += 1
            continue
        said = difference(mine, theirs)
        if said:
            counted["different"] += 1
            print(f"{said}: {one}\n  ours   {mine}\n  theirs {theirs}"[:3000])
        if not isinstance(theirs, str) and theirs and len(json.dumps(theirs)) < LONGEST_KEPT:
            kept.append([*one, theirs])
    oracle.stdin.close()
    oracle.wait()
    print(json.dumps(counted, sort_keys=True))
    if options.write:
        options.write.write_text(
            json.dumps({"series": columns, "cases": kept}, separators=(",", ":")), encoding="utf-8"
        )
    return 1 if counted["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
