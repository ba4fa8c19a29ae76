"""Graphite's HTTP API as Grafana asks for it: through the site, and through real sockets."""

import csv
import gc
import io
import json
import re
from typing import Any, Callable, Dict, List, Tuple
from urllib.parse import urlencode

import pytest

from metricsd.graphite import MAX_VALUES, functions
from metricsd.http import session as sessions
from metricsd.http.api import GraphiteApi
from metricsd.http.messages import FORM, MAX_PARAMETERS, HttpError, Reply, Request
from metricsd.http.session import HttpSession
from metricsd.http.slices import MAX_HELD_VALUES, MAX_WAITING, Shares
from metricsd.store import Memory
from tests.conftest import Clock, running
from tests.test_http_server import ask

NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def _long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in one go does not depend on how busy the machine is."""
    monkeypatch.setattr(sessions, "TURN_SECONDS", 60.0)


class Window:
    """The API on a store in memory, without sockets."""

    def __init__(self) -> None:
        self.store = Memory()
        self.due: List[Callable[[], None]] = []
        self.shares = Shares(self.due.append)
        self.handlers: Dict[str, Any] = {}
        api = GraphiteApi(self.store, lambda: NOW, self.shares)
        api.add_to(lambda path, **by_method: self.handlers.update({path: by_method}))

    def put(self, key: str, *values: float) -> None:
        """The last of them is of ten seconds ago."""
        for number, value in enumerate(reversed(values), 1):
            self.store.put(key, value, int(NOW) - 10 * number)

    def reply(self, path: str, method: str = "GET", **asked: Any) -> Tuple[str, bytes]:
        query = urlencode({name.rstrip("_"): value for name, value in asked.items()}, doseq=True)
        request = Request(method, path, query, {}, b"", "HTTP/1.1")
        if method == "POST":
            headers = {"content-type": FORM + "; charset=utf-8"}
            request = Request(method, path, "from=1&until=2", headers, query.encode(), "HTTP/1.1")
        answered = self.handlers[path][method](request)
        while not isinstance(answered, Reply):
            try:
                next(answered)
            except StopIteration as end:
                answered = end.value
        body = answered.body if isinstance(answered.body, bytes) else b"".join(answered.body)  # type: ignore
        return answered.content_type, body

    def json(self, path: str, method: str = "GET", **asked: Any) -> Any:
        content_type, body = self.reply(path, method, **asked)
        assert content_type == "application/json"

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        return json.loads(body.decode(), parse_constant=refuse)


@pytest.fixture(name="window")
def _window() -> Window:
    return Window()


def test_what_grafana_saves_and_tests_with(window: Window) -> None:
    (found,) = window.json("/render", target="constantLine(100)", from_="-5min", until="now")
    assert found["target"] == "100.0"
    assert {value for value, _ in found["datapoints"]} == {100}


def test_a_panel_of_grafana_12(window: Window) -> None:
    window.put("a.b", 1, 2.5, float("nan"), float("inf"), 5)
    target = r'aliasSub(a.b, "(^.*$)", "\1 A")'
    for method in ("GET", "POST"):
        panel: Any = {"target": target, "from_": "-1min", "maxDataPoints": 100}
        (found,) = window.json("/render", method, until="now", format="json", **panel)
        assert found["target"] == "a.b A"
        assert found["tags"]["name"] == "a.b"
        start = int(NOW) - 60
        values = [None, 1, 2.5, None, None, 5, None]
        assert found["datapoints"][:6] == [[v, start + 10 * i] for i, v in enumerate(values)][:6]


def test_long_series_are_cut_into_pieces_that_fit(window: Window) -> None:
    window.put("long", *range(2500))
    window.put("short", 1)
    targets = ["long", "short", "constantLine(1)"]
    found = window.json("/render", target=targets, from_="-30000s")
    assert [one["target"] for one in found] == ["long", "short", "1.0"]
    values = [value for value, _ in found[0]["datapoints"] if value is not None]
    assert values == list(range(2500))
    times = [time for _, time in found[0]["datapoints"]]
    assert times == list(range(times[0], times[0] + 10 * len(times), 10))


def test_no_target_is_no_series(window: Window) -> None:
    assert window.json("/render") == []
    assert window.json("/render", target="nothing.there") == []


def test_csv_and_raw(window: Window) -> None:
    window.put("a", 1.5, float("nan"), 3)
    asked: Any = {"target": "alias(a, 'a,\"b')", "from_": "-30s", "until": int(NOW) - 1}
    content_type, body = window.reply("/render", format="csv", **asked)
    assert content_type.startswith("text/csv")
    rows = list(csv.reader(io.StringIO(body.decode())))
    assert [(row[0], row[2]) for row in rows] == [('a,"b', "1.5"), ('a,"b', ""), ('a,"b', "3.0")]
    assert all(re.match(r"1970-01-1\d \d\d:\d\d:\d\d$", row[1]) for row in rows)
    _, body = window.reply("/render", format="raw", **asked)
    assert body == b'a,"b,999970,1000000,10|1.5,None,3.0\n'


@pytest.mark.parametrize(
    "path, asked, problem",
    [
        ("/render", {"target": "nope(a)"}, "nope"),
        ("/render", {"target": "a", "format": "png"}, "json, csv, raw"),
        ("/render", {"target": "a", "from_": "soon"}, "soon"),
        ("/render", {"target": "a", "from_": "now", "until": "-1h"}, "until"),
        ("/render", {"target": "a", "maxDataPoints": "x"}, "maxDataPoints"),
        ("/render", {"target": "a", "maxDataPoints": "0"}, "maxDataPoints"),
        ("/render", {"target": "a", "maxDataPoints": "\u00b2"}, "maxDataPoints"),
        ("/render", {"target": "a", "maxDataPoints": "9" * 6000}, "maxDataPoints"),
        ("/render", {"target": "a[z-a]"}, "not a pattern"),
        ("/metrics/find", {"query": "a[z-a]"}, "not a pattern"),
        ("/render", {"target": ["a"] * MAX_PARAMETERS, "from_": "-1h"}, str(MAX_PARAMETERS)),
        ("/metrics/find", {}, "query"),
        ("/metrics/find", {"query": "*", "format": "pickle"}, "treejson"),
        ("/metrics/find", {"query": "{a,b}{c,d}" * 9}, "braces"),
    ],
)
def test_what_can_not_be_answered_is_told(
    window: Window, path: str, asked: Dict[str, Any], problem: str
) -> None:
    with pytest.raises(HttpError) as caught:
        window.reply(path, **asked)
    assert caught.value.reply.status == 400
    assert problem in caught.value.reply.body.decode()  # type: ignore[union-attr]


def test_find(window: Window) -> None:
    for key in ("a.b.c", "a.b", "x.b.c", "a.d", "e"):
        window.put(key, 1)
    found = window.json("/metrics/find", "POST", query="*")
    assert [(one["text"], one["id"], one["leaf"], one["expandable"]) for one in found] == [
        ("a", "a", 0, 1), ("x", "x", 0, 1), ("e", "e", 1, 0),
    ]  # fmt: skip
    found = window.json("/metrics/find", query="*.*")
    assert [(one["id"], one["leaf"]) for one in found] == [
        ("*.b", 0), ("*.b", 1), ("*.d", 1),
    ]  # fmt: skip
    found = window.json("/metrics/find", query="a.*", wildcards=1)
    assert (found[0]["text"], found[0]["id"], found[0]["expandable"]) == ("*", "a.*", 1)


def test_many_nodes(window: Window) -> None:
    for number in range(1000):
        window.put(f"n{number:03}.same", 1)
    found = window.json("/metrics/find", query="*")
    assert [one["text"] for one in found] == [f"n{number:03}" for number in range(1000)]
    assert len(window.json("/metrics/find", query="*.*")) == 1
    assert len(window.json("/metrics/index.json")) == 1000
    assert len(window.json("/metrics/expand", query="*")["results"]) == 1000


def test_expand(window: Window) -> None:
    for key in ("a.b.c", "a.b", "e"):
        window.put(key, 1)
    queries = ["a.*", "*"]
    assert window.json("/metrics/expand", query=queries) == {"results": ["a", "a.b", "e"]}
    asked: Any = {"query": queries, "groupByExpr": 1, "leavesOnly": 1}
    assert window.json("/metrics/expand", **asked) == {"results": {"a.*": ["a.b"], "*": ["e"]}}
    assert window.json("/metrics/expand") == {"results": []}


def test_index(window: Window) -> None:
    assert window.json("/metrics/index.json") == []
    for key in ("b", "a.b", 'a"<img src=x onerror=alert(1)>', "\u00e9"):
        window.put(key, 1)
    keys = ["b", "a.b", 'a"<img src=x onerror=alert(1)>', "\u00e9"]
    assert window.json("/metrics/index.json") == keys


def test_functions(window: Window) -> None:
    found = window.json("/functions")
    assert set(found) == set(functions())
    assert window.json("/functions/scale") == found["scale"]
    grouped = window.json("/functions", grouped="true")
    assert grouped["Transform"]["scale"] == found["scale"]
    only = window.json("/functions", group="Transform")
    assert set(only) == set(grouped["Transform"])


def test_what_there_is_none_of(window: Window) -> None:
    assert window.json("/tags/autoComplete/tags") == []
    assert window.json("/tags/autoComplete/values") == []
    assert window.json("/events/get_data") == []
    assert window.reply("/version")[1] == b"1.1.10"


def requests_of(target: str, number: int = 1) -> bytes:
    head = "GET /render?" + urlencode({"target": target, "from": "-40000s"})
    return (head + " HTTP/1.1\r\nHost: a\r\n\r\n").encode() * number


class TestShares:
    """How many renders there may be at a time."""

    def session(self, window: Window) -> HttpSession:
        handler = window.handlers["/render"]["GET"]
        return HttpSession(handler, [], Clock())

    def test_others_wait_until_one_is_done(self, window: Window) -> None:
        window.shares.held = MAX_HELD_VALUES - MAX_VALUES + 1
        session = self.session(window)
        session.receive(requests_of("constantLine(1)"))
        assert session.waiting
        assert session.deadline is None
        called: List[int] = []
        session.when_answered(lambda: called.append(1))
        window.shares.give_back(1)
        window.due.pop()()
        assert called
        while session.unfinished:  # in slices, however slow this machine is
            session.go_on()
        assert b'"target": "1.0"' in session.replies()
        assert window.shares.held == MAX_HELD_VALUES - MAX_VALUES

    def test_who_looks_again_too_early_waits_again(self, window: Window) -> None:
        window.shares.held = MAX_HELD_VALUES
        session = self.session(window)
        session.receive(requests_of("constantLine(1)"))
        window.shares.give_back(1)
        window.due.pop()()
        session.go_on()
        assert session.waiting

    def test_too_many_are_told_so(self, window: Window) -> None:
        window.shares.held = MAX_HELD_VALUES
        waiting = [self.session(window) for _ in range(MAX_WAITING)]
        for session in waiting:
            session.receive(requests_of("constantLine(1)"))
        session = self.session(window)
        session.receive(requests_of("constantLine(1)"))
        assert session.replies().startswith(b"HTTP/1.1 503 ")

    def test_a_mistake_gives_back_what_it_held(self, window: Window) -> None:
        session = self.session(window)
        session.receive(requests_of("nope(1)"))
        assert session.replies().startswith(b"HTTP/1.1 400 ")
        assert window.shares.held == 0

    def test_who_leaves_gives_back_what_it_held(self, window: Window) -> None:
        window.put("a", *range(4000))
        gc.collect()
        gc.disable()
        try:
            session = self.session(window)
            session.receive(requests_of("a", 2))
            while not session.replies():
                session.go_on()
            assert session.unfinished
            assert 4000 <= window.shares.held < 5000
            del session
            assert window.shares.held == 0
        finally:
            gc.enable()


def test_through_real_sockets() -> None:
    with running("127.0.0.1", 0, http=0) as server:
        for path in ("/render?target=constantLine(100)", "/metrics/find?query=*", "/functions"):
            status, headers, body = ask(server, path)
            assert (status, headers["Content-Type"]) == (200, "application/json")
            json.loads(body.decode())
        form = {"Content-Type": FORM}
        status, _, body = ask(server, "/render/", "POST", body="target=no(a)", headers=form)
        assert (status, body.count(b"\n")) == (400, 1)
        assert ask(server, "/render?target=constantLine(1)", "HEAD")[::2] == (200, b"")
