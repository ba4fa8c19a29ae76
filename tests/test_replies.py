"""Kept replies are what writing all rows anew would give, and take bounded memory."""

import random
import tracemalloc
from typing import List

import pytest

from metricsd.protocol import replies as replies_module
from metricsd.protocol.replies import KeptReplies, size_in_memory
from metricsd.protocol.rows import rows
from metricsd.store import Series


def anew(key: str, series: Series) -> bytes:
    return b"ok\n" + b"".join(rows(key, series)) + b"\n"  # type: ignore[arg-type]


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
        assert kept.reply(key, store[key]) == anew(key, store[key])
        assert (
            sum(size_in_memory(key, reply) for key, reply in kept._kept.items())
            == kept._bytes
            <= 2400
        )


def test_what_has_not_changed_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: List[int] = []

    def counting(key, series, after=None):  # type: ignore[no-untyped-def]
        for piece in rows(key, series, after):
            written.append(piece.count(b"\n"))
            yield piece

    monkeypatch.setattr(replies_module, "rows", counting)
    series = Series()
    for timestamp in range(100):
        series.put(timestamp, 0.5)
    kept = KeptReplies()
    kept.reply("k", series)
    kept.reply("k", series)
    assert sum(written) == 100
    series.put(100, 0.5)
    kept.reply("k", series)
    assert sum(written) == 101
    series.put(50, 0.5)
    kept.reply("k", series)
    assert sum(written) == 202


def test_what_is_long_is_not_kept() -> None:
    kept = KeptReplies()
    series = Series()
    for timestamp in range(10000):
        series.put(timestamp, 0.5)
        reply = kept.reply("k", series) if timestamp % 100 == 0 else None
        assert reply is None or len(reply) <= replies_module.MAX_REPLY_BYTES
    assert kept.reply("k", series) is None
    short = Series()
    short.put(1, 1.0)
    assert kept.reply("k" * 140000, short) is None


@pytest.mark.parametrize("letter", ["k", "\u043a", "\U0001f600"])
def test_long_keys_count_as_well(letter: str) -> None:
    """Measured: what is kept takes no more than it may, however the keys stand in memory."""
    kept = KeptReplies()
    series = [Series() for _ in range(300)]
    for one in series:
        one.put(1, 1.0)
    tracemalloc.start()
    try:
        for number, one in enumerate(series):
            kept.reply(letter * (60000 // len(letter.encode())) + str(number), one)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= 1.1 * replies_module.MAX_KEPT_BYTES
    assert taken >= 0.5 * replies_module.MAX_KEPT_BYTES
