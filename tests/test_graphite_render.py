"""Targets, from their text to their values; that these are Graphite's, other tests say."""

import json
from math import inf, nan
from typing import Any, List

import pytest

from metricsd.graphite import Rendered, RenderError, functions, limits, render
from metricsd.graphite.patterns import Pattern
from metricsd.graphite.table import FUNCTIONS
from metricsd.graphite.targets import Call, Path, parse
from metricsd.store import Memory
from tests.test_graphite_globs import done

# Those that public dashboards use most.
WANTED = """
    constantLine alias aliasSub aliasByNode aliasByMetric sumSeries averageSeries maxSeries
    minSeries countSeries diffSeries divideSeries asPercent groupByNode scale offset absolute
    perSecond derivative nonNegativeDerivative integral consolidateBy summarize movingAverage
    keepLastValue transformNull timeShift sortByMaxima sortByName highestAverage limit
    removeBelowValue exclude grep
""".split()  # noqa: SIM905


def store_of(**values: List[float]) -> Memory:
    """A value every ten seconds from 1,000 on."""
    store = Memory()
    for key, column in values.items():
        for place, value in enumerate(column):
            store.put(key.replace("_", "."), value, 1000 + 10 * place)
    return store


def rendered(store: Memory, *targets: str, **how: Any) -> List[Rendered]:
    start, until = how.get("start", 1000), how.get("until", 1049)
    work = render(store, list(targets), start, until, how.get("points", 5), 0.0)
    results: List[Rendered] = done(work)
    return results


def values(store: Memory, target: str, **how: Any) -> List[Any]:
    return [one.values for one in rendered(store, target, **how)]


STORE = store_of(a_x=[1, 2, 3, 4, 5], a_y=[10, 20, nan, 40, inf], b=[2, 2, 2, 2, 0])


def test_a_path() -> None:
    assert rendered(STORE, "a.*") == [
        Rendered("a.x", 1000, 1050, 10, [1, 2, 3, 4, 5], {"name": "a.x"}),
        Rendered("a.y", 1000, 1050, 10, [10, 20, None, 40, None], {"name": "a.y"}),
    ]
    assert rendered(STORE, "c.*", "c", " ") == []


def test_tags_are_part_of_the_key() -> None:
    store = Memory()
    store.put("disk;host=a;unit=B", 1.0, 1000)
    [one] = rendered(store, "disk;host=a;unit=B")
    assert one.name == "disk;host=a;unit=B"
    assert one.tags == {"name": "disk", "host": "a", "unit": "B"}
    assert rendered(store, 'aliasByNode(disk*, 0, "host")')[0].name == "disk.a"


def test_what_grafana_asks_to_test_a_source() -> None:
    [one] = rendered(STORE, "constantLine(100)")
    assert (one.name, one.values) == ("100.0", [100, 100, 100])


def test_what_grafana_wraps_around_every_target() -> None:
    [one] = rendered(STORE, r'aliasSub(sumSeries(a.*), "(^.*$)", "\1 A")')
    assert one.name == "sumSeries(a.*) A"
    assert one.values == [11, 22, 3, 44, 5]


def test_every_function_wanted_is_there() -> None:
    assert set(WANTED) <= set(FUNCTIONS)
    described = functions()
    assert set(described) == set(FUNCTIONS)
    json.dumps(described)
    for name, one in described.items():
        assert one["name"] == name
        assert one["function"].startswith(name + "(")
        assert one["description"] and one["group"]
    assert described["movingAverage"]["params"][1] == {
        "name": "windowSize", "type": "intOrInterval", "required": True,
    }  # fmt: skip


def test_a_function_that_is_not_there_is_named() -> None:
    with pytest.raises(RenderError, match="no function holtWinters"):
        rendered(STORE, "alias(holtWinters(a.*), 'x')")


@pytest.mark.parametrize(
    "target, parsed",
    [
        ("a.b", Path("a.b")),
        ("100", Path("100")),
        ("a.{b,c}.d*", Path("a.{b,c}.d*")),
        ("a\\(b\\).c", Path("a(b).c")),
        ("k;t=v", Path("k;t=v")),
        ("f(k;t=v)", Call("f", (Path("k;t=v"),), ())),
        ("f()", Call("f", (), ())),
        ("f ( a , -1, 2.5 ,1e3)", Call("f", (Path("a"), -1, 2.5, 1000.0), ())),
        ("f('x,\"', \"y')\")", Call("f", ('x,"', "y')"), ())),
        ("f(TRUE, false, None, inf)", Call("f", (True, False, None, inf), ())),
        ("f(1min, trueish)", Call("f", (Path("1min"), Path("trueish")), ())),
        ("f(a, n=5, s='x')", Call("f", (Path("a"),), (("n", 5), ("s", "x")))),
        ("a|f(1)|g()", Call("g", (Call("f", (Path("a"), 1), ()),), ())),
        ("f(g(a))", Call("f", (Call("g", (Path("a"),), ()),), ())),
        ("f(наблюдение.*)", Call("f", (Path("наблюдение.*"),), ())),
    ],
)
def test_targets(target: str, parsed: Any) -> None:
    assert parse(target) == parsed


@pytest.mark.parametrize(
    "target",
    ["f(", "f(a", "f(a))", "a b", "f(a b)", "f(,a)", "(", ")", "f(a)g", "'x'", "f(n=1, a)", "a|b",
     "a{b", "f(a=)", "f('x)", "a|", ","],
)  # fmt: skip
def test_what_is_no_target(target: str) -> None:
    with pytest.raises(RenderError, match="target can't be read"):
        print(parse(target))


@pytest.mark.parametrize(
    "target, said",
    [
        ("scale(a.*)", "scale misses its argument factor"),
        ("scale(a.*, 'x')", "'x' is no float for factor"),
        ("scale(a.*, 1, 2)", "scale takes 2 arguments at most"),
        ("scale(a.*, factor=2, more=1)", "no argument more"),
        ("scale(2, 2)", "2 is no seriesList"),
        ("limit(a.*, 1.5)", "1.5 is no integer"),
        ("limit(a.*, a.*)", "a list of series is no integer"),
        ("movingAverage(a.*, 0)", "0 is no intOrInterval"),
        ("movingAverage(a.*, '5x')", "no intOrInterval"),
        ("consolidateBy(a.*, 'mode')", "'mode' is no string"),
        ("summarize(a.*, '1min', 'mode')", "'mode' is no aggFunc"),
        ("groupByNode(a.*, 0, 'mode')", "no aggregation mode"),
        ("divideSeries(a.*, a.*)", "divides by one series, not by 2"),
        ("asPercent(a.*, a.*, a.*)", "no nodeOrTag"),
        ("grep(a.*, '(')", "not a regular expression"),
        (r"aliasSub(a.*, 'a', '\9')", "not a replacement"),
        ("timeShift(a.*, '1d', true, true)", "alignDst"),
        ("alias(" * 33 + "a" + ", 'x')" * 33, "nested deeper than 32"),
        ("a" * 5000, "longer than 4096"),
    ],
)
def test_mistakes_are_told_in_one_line(target: str, said: str) -> None:
    with pytest.raises(RenderError, match=said) as told:
        rendered(STORE, target)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 250


def test_an_empty_range_and_too_many_targets() -> None:
    with pytest.raises(RenderError, match="until has to be after from"):
        rendered(STORE, "a", start=5, until=5)
    with pytest.raises(RenderError, match="more than 100 targets"):
        rendered(STORE, *["a"] * 101)


def test_the_step_is_a_multiple_of_the_interval_that_leaves_few_enough_values() -> None:
    for points, step in [(5, 10), (4, 20), (3, 20), (2, 30), (None, 10), (100_000, 10)]:
        [one] = rendered(STORE, "a.x", points=points)
        assert one.step == step
        assert one.start % step == 0
        assert (one.end - one.start) // step == len(one.values)


def test_buckets_are_whole_and_do_not_depend_on_the_range() -> None:
    [one] = rendered(STORE, "a.x", start=1011, until=1041, points=2)
    assert (one.start, one.step, one.values) == (1000, 20, [1.5, 3.5, 5])


def test_the_only_value_that_is_wanted() -> None:
    [one] = rendered(STORE, "consolidateBy(a.x, 'max')", points=1)
    assert one.values == [5]


def test_consolidate_by_says_how_points_become_values() -> None:
    for name, wanted in [
        ("sum", [3, 7, 5]), ("max", [2, 4, 5]), ("min", [1, 3, 5]), ("first", [1, 3, 5]),
        ("last", [2, 4, 5]), ("average", [1.5, 3.5, 5]), ("avg", [1.5, 3.5, 5]),
    ]:  # fmt: skip
        assert values(STORE, f"consolidateBy(a.x, '{name}')", points=3) == [wanted]
    # Through functions of the same kind of value, and not through others.
    assert values(STORE, "consolidateBy(scale(a.x, 2), 'max')", points=3) == [[4, 8, 10]]
    assert values(STORE, "consolidateBy(derivative(a.x), 'max')", points=3) == [[None, 2, 1.5]]


def test_windows_and_shifts_read_from_before_the_range() -> None:
    assert values(STORE, "movingAverage(a.x, 2)", start=1020) == [[2.5, 3.5, 4.5]]
    assert values(STORE, "movingAverage(a.x, '20s')", start=1020) == [[2.5, 3.5, 4.5]]
    assert values(STORE, "timeShift(a.x, '20s')", start=1020) == [[1, 2, 3]]
    nested = "movingAverage(movingAverage(a.x, 2), 2)"
    assert values(STORE, nested, start=1020) == [[2, 3, 4]]


def test_nan_and_infinity_are_none_and_stay_so() -> None:
    assert values(STORE, "scale(a.y, 1e308)") == [[None] * 5]
    assert values(STORE, "divideSeries(a.x, b)") == [[0.5, 1, 1.5, 2, None]]


def test_many_windows_within_each_other_do_not_double_the_work() -> None:
    target = "movingAverage(" * 20 + "a.x" + ", 2)" * 20
    assert len(values(STORE, target)[0]) == 5


def test_series_of_different_steps_are_brought_together_by_time() -> None:
    store = store_of(a=[1, 2, 3, 4, 5, 6])
    for place, value in enumerate([10, 20, 30]):
        store.put("b", value, 1000 + 20 * place)
    [one] = rendered(store, "sumSeries(a, b)", start=1010, until=1059, points=50)
    assert (one.start, one.step) == (1000, 20)
    assert one.values == [12, 23.5, 35.5]  # of 1,000 only what is in the range, and in b's bucket


def test_steps_that_have_little_in_common_do_not_become_days() -> None:
    store = Memory()
    for place in range(60):
        store.put("a", 1.0, 59 * place)
        store.put("b", 1.0, 61 * place)
    [one] = rendered(store, "sumSeries(a, b)", start=0, until=3000, points=1000)
    assert one.step == 61
    assert set(one.values[:-1]) == {2.0}


def test_a_new_series_of_one_point_does_not_change_the_step_of_others() -> None:
    store = store_of(a=[1, 2, 3, 4, 5])
    store.put("b", 7.0, 1040)
    [one] = rendered(store, "sumSeries({a,b})", points=3, until=1049)
    assert one.step == 20
    assert {len(set(some.values)) for some in rendered(store, "b")} == {2}


@pytest.mark.parametrize(
    "target, said",
    [
        ("scale(" * 30 + "a.*" + ", 2)" * 30, "values would have to be computed"),
        ("movingAverage(a.x, 100)", "more than 50"),
    ],
)
def test_a_request_may_cost_so_much(
    monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    from metricsd.graphite import evaluate, fetch

    monkeypatch.setattr(evaluate.Budget.__init__, "__defaults__", (300,))
    monkeypatch.setattr(fetch, "MAX_SERIES_VALUES", 50)
    with pytest.raises(RenderError, match=said):
        rendered(STORE, target)


def test_a_name_can_not_grow_without_end() -> None:
    target = "a.*"
    for _ in range(20):
        target = rf"aliasSub({target}, '(.+)', '\1\1\1')"
    with pytest.raises(RenderError, match=r"longer than 100000|too long"):
        rendered(STORE, target)
    assert limits.MAX_NAME_CHARS == 100_000


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|aa)*b", "(a*)*", "(?:a?b?)+c"])
def test_patterns_that_could_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(RenderError, match="repeats what repeats"):
        Pattern(pattern)


def test_patterns_are_refused_for_the_text_for_which_they_take_long() -> None:
    pattern = Pattern(".*a.*b.*c.*d")
    assert not pattern.is_in("a" * 10)
    with pytest.raises(RenderError, match="too long for aaaa"):
        pattern.is_in("a" * 500)
    usual = Pattern(r"^.*\.([^.]+)\.(\w+)$")
    assert usual.replaced("servers.web1.cpu.user", r"\1 \2") == "cpu user"


def test_steps_are_short_and_the_store_may_change_between_them() -> None:
    store = Memory()
    for key in range(50):
        for place in range(1000):
            store.put(f"k.{key}", float(place), place)
    steps = 0
    work = render(store, ["sumSeries(scale(k.*, 2))"], 0, 999, 500, 0.0)
    try:
        while True:
            next(work)
            steps += 1
            if steps == 3:
                for _ in store.drop_before(500):
                    pass
    except StopIteration as end:
        [one] = end.value
    assert steps > 50 * 500 / limits.VALUES_A_STEP
    assert one.values[-1] == 50 * 2 * 998.5


@pytest.mark.parametrize(
    "pattern",
    [
        "(a|a)*b", "(?:a|ab|a)+$", "(a*){8}b", "(a*){900}b", "(a|a){30}b", "(?:ab|ac|a){1,30}$",
        "a?" * 30 + "a{30}b", "(?:aa|ab|a)" * 30 + "$", "(?:(?=[ab]{900})){900}b", ".*a{300}b",
        r"(.*)(.*)\1\2b",
    ],
)  # fmt: skip
def test_no_regular_expression_takes_long(pattern: str) -> None:
    """Each would try millions of ways for this name, and some would never end."""
    with pytest.raises(RenderError, match=r"repeats what repeats|could take too long"):
        Pattern(pattern).is_in("a" * 500)


@pytest.mark.parametrize(
    "pattern",
    [
        "(^.*$)", r"^(?:[^.]+\.){3}(\w+)$", "(cpu|memory|disk)", r"^\S+\.(cpu|load)\.?(\d+)$",
        r"([^.]*)\.(user|system|idle)", "(?i)^servers.*(web|db)[0-9]{1,3}", "[0-9]+|x", "",
    ],
)  # fmt: skip
def test_usual_regular_expressions_are_taken(pattern: str) -> None:
    """For names of a usual length."""
    Pattern(pattern).is_in("servers.web1.cpu.0." * 2)


def test_what_was_computed_on_the_way_is_let_go_of_a_series_at_a_time() -> None:
    """At the bounds it is some million floats, which take far longer than a step may."""
    store = Memory()
    for key in range(50):
        for place in range(1000):
            store.put(f"k.{key}", float(place), place)
    work: Any = render(store, ["scale(k.*, 2)"], 0, 999, 1000, 0.0)
    computed = [0]  # floats, after each step
    try:
        while True:
            next(work)
            memory = work.gi_frame.f_locals.get("memory", {})
            computed.append(sum(len(one.values) for found in memory.values() for one in found))
    except StopIteration as end:
        rows = end.value
    assert len(rows) == 50
    assert max(computed) >= 100 * 1000
    assert min(after - before for before, after in zip(computed, computed[1:])) >= -1000
    assert computed[-1] == 0
