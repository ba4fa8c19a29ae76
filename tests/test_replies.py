"""Kept replies are what writing all rows anew would give, and take bounded memory."""

import random
from typing import List

import pytest

from metricsd import replies as replies_module
from metricsd.replies import KEPT_REPLY_BYTES, KeptReplies
from metricsd.rows import rows
from metricsd.series import Series


def anew(key: str, series: Series) -> bytes:
    return b"ok\n" + b"".join(rows(key, series)) + b"\n"


@pytest.mark.parametrize("seed", range(20))
def test_random_puts_and_gets(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(replies_module, "MAX_KEPT_BYTES", 2400)
    dice = random.Random(seed)
    store = {key: Series() for key in ("a", "ключ", "%d")}
    kept = KeptReplies()
    newest = 0
    for _ in range(500):
        key = dice.choice(list(store))
        if dice.random() < 0.5:
            newest += 1
            store[key].put(newest, dice.random())
        elif dice.random() < 0.2:
            store[key].put(dice.randrange(newest + 1), dice.random())
        elif dice.random() < 0.1:
            store[key] = Series()  # another one, of the same name
        assert kept.get(key, store[key]) == anew(key, store[key])
        assert (
            sum(len(reply.text) + KEPT_REPLY_BYTES for reply in kept._kept.values())
            == kept._bytes
            <= 2400
        )


def test_what_has_not_changed_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: List[int] = []

    def counting(key, series, done=None):  # type: ignore[no-untyped-def]
        for piece in rows(key, series, done):
            written.append(piece.count(b"\n"))
            yield piece

    monkeypatch.setattr(replies_module, "rows", counting)
    series = Series()
    for timestamp in range(100):
        series.put(timestamp, 0.5)
    kept = KeptReplies()
    kept.get("k", series)
    kept.get("k", series)
    assert sum(written) == 100
    series.put(100, 0.5)
    kept.get("k", series)
    assert sum(written) == 101
    series.put(50, 0.5)
    kept.get("k", series)
    assert sum(written) == 202


def test_what_is_long_is_not_kept() -> None:
    kept = KeptReplies()
    series = Series()
    for timestamp in range(10000):
        series.put(timestamp, 0.5)
        reply = kept.get("k", series) if timestamp % 100 == 0 else None
        assert reply is None or len(reply) <= replies_module.MAX_REPLY_BYTES
    assert kept.get("k", series) is None
    short = Series()
    short.put(1, 1.0)
    assert kept.get("k" * 140000, short) is None
