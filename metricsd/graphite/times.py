"""Times as Graphite has them: epoch seconds, ``now-6h``, ``midnight``, ``20261124``, ``HH:MM_...``.

Owns how they are written. Local times are those of the machine's time zone. The syntax: Graphite's
documentation, "The Render URL API", from / until.
"""

import re
from datetime import datetime, timedelta
from typing import Dict, Tuple

from metricsd.graphite.limits import RenderError

# A year has 365 days and a month 30, as in Graphite. The first that a unit begins with.
UNITS: Tuple[Tuple[str, int], ...] = (
    ("s", 1), ("min", 60), ("h", 3600), ("d", 86400), ("w", 7 * 86400), ("mon", 30 * 86400),
    ("y", 365 * 86400),
)  # fmt: skip
OFFSET = re.compile(r"(\d{1,10})([a-z]+)")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS: Dict[str, int] = {"midnight": 0, "noon": 12, "teatime": 16}
DAYS: Dict[str, int] = {"yesterday": -1, "today": 0, "": 0, "tomorrow": 1}
CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?(am|pm)|(\d{1,2}):(\d{2})")
LAST_SECOND = 253_402_300_799  # of the year 9999, the last that datetime knows
MAX_TEXT = 100  # characters; the longest that makes sense has some 40


def parse_time(text: str, now: float) -> int:
    """The epoch seconds that a text means at the time ``now``. Raises RenderError."""
    plain = re.sub(r"[\s_,]", "", text.lower())
    if len(text) > MAX_TEXT:
        raise RenderError(f"not a time: {text[:MAX_TEXT]}...")
    try:
        if plain.isdigit() and not _is_date(plain):
            return min(int(plain), LAST_SECOND)
        place = re.search(r"[+-]", plain)
        reference, offset = (
            (plain[: place.start()], plain[place.start() :]) if place else (plain, "")
        )
        start = now if reference in ("", "now") else _reference(reference, now)
        return int(start) + (parse_offset(offset) if offset else 0)
    except (ValueError, OverflowError, OSError):
        raise RenderError(f"not a time: {text}") from None


def parse_offset(text: str) -> int:
    """The seconds of ``-1h30min`` or ``5d``. Raises RenderError."""
    sign, plain = (-1, text[1:]) if text[:1] == "-" else (1, text[text[:1] == "+" :])
    seconds = end = 0
    for found in OFFSET.finditer(plain):
        scale = [scale for unit, scale in UNITS if found.group(2).startswith(unit)]
        if found.start() != end or not scale:
            break
        seconds += int(found.group(1)) * scale[0]
        end = found.end()
    if not plain or end != len(plain) or seconds > LAST_SECOND:
        raise RenderError(f"not an interval: {text[:MAX_TEXT]}")
    return sign * seconds


def _is_date(digits: str) -> bool:
    """Whether eight digits are a date and no epoch seconds."""
    return (
        len(digits) == 8
        and int(digits[:4]) > 1900
        and int(digits[4:6]) < 13
        and int(digits[6:]) < 32
    )


def _reference(text: str, now: float) -> float:
    """A time of the day, a day, or both. Raises ValueError."""
    hour = minute = 0
    found = CLOCK.match(text)
    word = next((word for word in HOURS if text.startswith(word)), None)
    if found:
        text = text[found.end() :]
        hour = int(found.group(1) or found.group(4))
        minute = int(found.group(2) or found.group(5) or 0)
        if found.group(3) == "pm":
            hour = (hour + 12) % 24
    elif word:
        text, hour = text[len(word) :], HOURS[word]
    day = _day(text, datetime.fromtimestamp(now))
    return day.replace(hour=hour, minute=minute, second=0, microsecond=0).timestamp()


def _day(text: str, today: datetime) -> datetime:
    """A day by its date or its name. Raises ValueError."""
    if text in DAYS:
        return today + timedelta(days=DAYS[text])
    if text.count("/") == 2:
        month, day, year = map(int, text.split("/"))
        if year < 1900:
            year += 1900 if year >= 70 else 2000
        return datetime(year, month, day)
    if len(text) == 8 and text.isdigit():
        return datetime(int(text[:4]), int(text[4:6]), int(text[6:]))
    if text[:3] in MONTHS:
        number = re.search(r"\d{1,2}\Z", text)
        if number is None:
            raise ValueError("a month without a day")
        return datetime(today.year, MONTHS.index(text[:3]) + 1, int(number.group()))
    if text[:3] in WEEKDAYS:
        return today - timedelta(days=(today.weekday() - WEEKDAYS.index(text[:3])) % 7)
    raise ValueError("no such day")
