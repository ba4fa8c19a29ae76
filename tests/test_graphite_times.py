"""Times as Graphite has them."""

import time
from typing import Iterator

import pytest

from metricsd.graphite import RenderError, parse_time
from metricsd.graphite.times import parse_offset

NOW = 1795000000.75  # Wednesday, 2026-11-18 11:06:40 UTC


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(text: str) -> int:
    import calendar

    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M"))


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("now", 0), ("", 0), ("-6h", -21600), ("-5min", -300), ("-1mon", -30 * 86400),
        ("now-1y", -365 * 86400), ("-1h30min", -5400), ("+10s", 10), ("now+2d", 172800),
        ("-1w", -604800), ("-1week", -604800), (" NOW - 1H ", -3600), ("1795000000", 0),
        ("0", -1795000000),
    ],
)  # fmt: skip
def test_times_from_now(text: str, seconds: int) -> None:
    assert parse_time(text, NOW) == int(NOW) + seconds


@pytest.mark.parametrize(
    "text, day",
    [
        ("midnight", "2026-11-18 00:00"),
        ("noon", "2026-11-18 12:00"),
        ("teatime", "2026-11-18 16:00"),
        ("today", "2026-11-18 00:00"),
        ("noon yesterday", "2026-11-17 12:00"),
        ("midnight_tomorrow", "2026-11-19 00:00"),
        ("midnight-1d", "2026-11-17 00:00"),
        ("20261124", "2026-11-24 00:00"),
        ("04:30_20261124", "2026-11-24 04:30"),
        ("16:05", "2026-11-18 16:05"),
        ("4:05pm", "2026-11-18 16:05"),
        ("6pm today", "2026-11-18 18:00"),
        ("3am", "2026-11-18 03:00"),
        ("monday", "2026-11-16 00:00"),
        ("wed", "2026-11-18 00:00"),
        ("thursday", "2026-11-12 00:00"),
        ("11/24/26", "2026-11-24 00:00"),
        ("1/2/1999", "1999-01-02 00:00"),
        ("jan 5", "2026-01-05 00:00"),
        ("noon november 24", "2026-11-24 12:00"),
    ],
)
def test_times_of_days(text: str, day: str) -> None:
    assert parse_time(text, NOW) == utc(day)


def test_local_times_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-3")  # three hours ahead
    time.tzset()
    assert parse_time("midnight", NOW) == utc("2026-11-17 21:00")


@pytest.mark.parametrize(
    "text",
    ["never", "-5", "-h", "5 parsecs", "-1x", "25:00", "20261131_", "jan", "jan 40", "1/2", "now-",
     "-99999999999999y", "x" * 200, "1:2:3", "²"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(RenderError, match="not a"):
        print(parse_time(text, NOW))


def test_offsets() -> None:
    assert parse_offset("1d") == 86400
    assert parse_offset("+90s") == 90
    assert parse_offset("-2hours30minutes") == -9000
    with pytest.raises(RenderError, match="not an interval"):
        parse_offset("")
