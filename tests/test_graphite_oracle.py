"""What targets mean, as graphite-web 1.1.10 said to bench/oracle/compare.py --write."""

import json
import random
import sys
from math import nan
from pathlib import Path
from typing import Any, List

import pytest

from metricsd.store import Memory
from tests.test_graphite_render import WANTED, rendered

sys.path.append(str(Path(__file__).parent.parent / "bench"))

from oracle.cases import Case, case, series, store_of
from oracle.compare import Ours, difference

SAID = json.loads(Path(__file__).with_name("graphite_oracle.json").read_text(encoding="utf-8"))
POINTS = {key: [(at, value) for at, value in points] for key, points in SAID["series"].items()}
STORE = store_of(POINTS)


def test_results_are_those_of_graphite_web() -> None:
    ours = Ours(STORE)
    for *one, theirs in SAID["cases"]:
        assert difference(ours.result(Case(*one)), theirs) == "", one
    assert len(SAID["cases"]) >= 200


def test_every_function_is_among_them() -> None:
    targets = "\n".join(one[0] for one in SAID["cases"])
    assert [name for name in WANTED if f"{name}(" not in targets] == []


def test_a_difference_is_seen() -> None:
    ours = [["a", 0, 20, 10, [1.0, None], {"name": "a"}]]
    assert difference(ours, [["a", 0, 20, 10, [1.0 + 1e-12, nan], {"name": "a"}]]) == ""
    for theirs in (
        ["b", 0, 20, 10, [1.0, None], {"name": "a"}],
        ["a", 0, 20, 5, [1.0, None], {"name": "a"}],
        ["a", 0, 20, 10, [1.001, None], {"name": "a"}],
        ["a", 0, 20, 10, [1.0, 0.0], {"name": "a"}],
        ["a", 0, 20, 10, [1.0], {"name": "a"}],
        ["a", 0, 20, 10, [1.0, None], {}],
    ):
        assert difference(ours, [theirs]) != ""
    assert difference(ours, "TypeError: x") == "an error"


def test_cases_can_be_repeated() -> None:
    assert [case(random.Random(3)) for _ in range(2)] == [case(random.Random(3))] * 2
    assert repr(series(random.Random(3))) == repr(series(random.Random(3)))


def column(store: Memory, target: str, **how: Any) -> List[Any]:
    [one] = rendered(store, target, **how)
    return one.values


# Each row of the table of differences in metricsd/OPERATING.md, by its first words.
def _pipes() -> None:
    store = store_of({"a": [(1000 + 10 * i, float(i)) for i in range(9)], "b": [(1000, 1.0)]})
    target = "movingAverage({a,b} | limit(1), 2)"
    assert len(rendered(store, target, start=1040, until=1080)) == 1


def _rest() -> None:
    with pytest.raises(ValueError, match="can't be read"):
        rendered(STORE, "a.x.one)")


def _steps() -> None:
    store = store_of(
        {
            "a": [(1000 + 10 * place, 1.0) for place in range(12)],
            "b": [(1020, 6.0), (1080, 6.0)],
        }
    )
    [one] = rendered(store, "sumSeries(a, b)", start=1010, until=1109, points=100)
    assert (one.start, one.step) == (960, 60)
    assert one.values == [1.0, 7.0, 7.0]


def _windows() -> None:
    store = store_of({"a": [(1000 + 60 * i, float(i)) for i in range(9)]})
    assert column(store, "movingAverage(a, '5s')", start=1140, until=1260, points=9) == [3, 4, 5]


def _missing() -> None:
    store = store_of({"a": [(1000, 1.0), (1010, 9.0), (1030, 3.0), (1040, 5.0)]})
    assert column(store, "perSecond(a, 100)", until=1049) == [None, 0.8, None, None, 0.2]


def _percent() -> None:
    store = store_of({"a.x": [(1000, 1.0), (1010, 1.0)], "b.y": [(1000, 1.0), (1010, 1.0)]})
    names = [one.name for one in rendered(store, "asPercent(a.*, b.*, 1)", until=1019)]
    assert names == ["asPercent(a.x,MISSING)", "asPercent(MISSING,b.y)"]


def _reference() -> None:
    store = store_of(
        {"a": [(1000, 1.0), (1010, nan), (1020, 3.0)], "b": [(1000, 1.0), (1010, 1.0)]}
    )
    target = 'transformNull(timeShift(a, "+10s"), 0, a)'
    assert column(store, target, until=1029)[:2] == [0.0, 3.0]


def _keys() -> None:
    store = store_of({"a": [(1000, 1.0), (1010, 1.0)]})
    [one] = rendered(store, "aliasByNode(scale(constantLine(2.5), 2), 0)", until=1019)
    assert one.name == "2"


DIFFERENCES = {
    "a pipe": _pipes,
    "what follows the end of a target": _rest,
    "series of different steps": _steps,
    "a window": _windows,
    "perSecond and nonNegativeDerivative": _missing,
    "asPercent by nodes": _percent,
    "transformNull": _reference,
    "aliasByNode of a number": _keys,
}


@pytest.mark.parametrize("words", DIFFERENCES)
def test_differences_on_purpose(words: str) -> None:
    DIFFERENCES[words]()


def test_the_table_of_differences_is_complete() -> None:
    import metricsd

    path = Path(metricsd.__file__).with_name("OPERATING.md")
    section = path.read_text(encoding="utf-8").split("### Where targets differ")[1].split("\n#")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    assert rows[1:] == list(DIFFERENCES)
