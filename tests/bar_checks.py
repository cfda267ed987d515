"""Bars of every door beside the slow ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2kernel.query import QueryEngine
from k2kernel.replay import Bar
from k2kernel.workbench import Workbench
from tests.slow_bars import Asked, Row, bars


def rows_of(bench: Workbench | QueryEngine, of: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (bench.trades() if of == "trades" else bench.quotes()).to_arrow().to_pylist()
    return found


def check(bench: Workbench | QueryEngine, asked: Asked, **words: Any) -> list[dict[str, Any]]:
    """Every column of the bars of all instruments is that of the slow ones; returns them."""
    words = {"of": asked.of, "align": asked.align, "columns": "all", **words}
    found: list[dict[str, Any]] = bench.bars(None, asked.interval, **words).to_arrow().to_pylist()
    wanted = bars(rows_of(bench, asked.of), asked)
    assert len(found) == len(wanted)
    for bar, want in zip(found, wanted, strict=True):
        assert bar == {name: want[name] for name in bar}
    assert not found or set(found[0]) == set(wanted[0]) - {"ts_close_ns"}
    return found


def check_every_door(bench: Workbench, rows: Sequence[Row], asked: Asked, **words: Any) -> None:
    """The slow bars of `rows`, which are all that there are, come from Python, SQL and a replay, bit for bit."""
    wanted = bars(rows, asked)
    table = bench.bars(None, asked.interval, of=asked.of, columns="all", **words).to_arrow()
    for bar, want in zip(table.to_pylist(), wanted, strict=True):
        assert bar == {name: want[name] for name in bar}
    named = "".join(f", {name} => '{value}'" for name, value in words.items())
    call = f"bars(NULL, '{asked.interval}', of => '{asked.of}', columns => 'all'{named})"
    assert bench.sql(f"SELECT * FROM {call}").to_arrow().equals(table)
    got: list[Bar] = []
    kind = "trades" if asked.of == "trades" else "quotes"
    bench.replay(kinds=kind, batch_rows=997).run(on_bar=got.append, interval=asked.interval, of=asked.of, **words)
    by_close = sorted(wanted, key=lambda bar: (bar["ts_close_ns"], bar["venue"], bar["symbol"], bar["session"]))
    assert [bar._asdict() for bar in got] == [{**dict.fromkeys(Bar._fields), **bar} for bar in by_close]
