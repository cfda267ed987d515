"""The day of an instrument: how much is traded at which time, by phase of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from k2kernel.plots.axis import Axis
from k2kernel.plots.drawing import (
    BID,
    LINE,
    QUIET,
    Reader,
    clocks,
    figures,
    heading,
    holoviews,
    pinned,
    placed,
    some,
    states,
    zoned,
)

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.query import Result

_PHASES = {"continuous": ("rth", BID), "auctions": ("rth+auctions", LINE), "out of hours": ("all", QUIET)}
"""The phases from the inside out, each with the hours that end with it, and its colour."""


def profile(reader: Reader, symbol: str, interval: str = "5m", *, tz: str | None = None, **words: Any) -> Any:
    """The mean volume a session by time of day: in continuous trading, in auctions, and out of hours.

    `interval` is of a day or less, on the venue's session clock; the words are those of `wb.bars` but `hours`.
    """
    view = pinned(reader, words)
    bars = {
        phase: zoned(view.bars(symbol, interval, hours=hours, **words), tz) for phase, (hours, _) in _PHASES.items()
    }
    every = bars["out of hours"]
    frame = some(_by_time(bars, every.zone or "UTC"), "trades")
    events = {name: value for name, value in words.items() if name not in ("of", "eligible", "adjustment")}
    facts = [
        f"policy {', '.join(every.to_polars()['eligible'].unique().sort())}",
        _mean_of(frame["sessions"][0]),
        clocks(view.trades(symbol, columns=["clock"], **events)),
        states(every),
        *bars["continuous"].notes,
    ]
    return _drawn(frame, every.zone, heading(f"{symbol}, volume in {interval} by time of day", *facts))


def _mean_of(sessions: int) -> str:
    return "one session" if sessions == 1 else f"mean of {sessions} sessions"


def _by_time(bars: dict[str, Result], zone: str) -> pl.DataFrame:
    """ts_open (on the day of the last session), phase, sessions, low and high: the volumes stacked by phase."""
    import polars as pl

    frames = [found.to_polars().with_columns(pl.lit(phase).alias("phase")) for phase, found in bars.items()]
    every = pl.concat([frame.select("session", "ts_open", "volume", "phase") for frame in frames])
    if every.is_empty():
        return every
    sessions = every["session"].n_unique()
    local = pl.col("ts_open").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    since = local - pl.col("session").cast(pl.Datetime("us"))
    last = pl.lit(every["session"].max()).cast(pl.Datetime("us"))
    summed = every.group_by(since.alias("since"), "phase").agg(pl.col("volume").sum().cast(pl.Float64) / sessions)
    wide = summed.pivot("phase", index="since", values="volume").sort("since")
    absent = [pl.lit(0.0).alias(phase) for phase in _PHASES if phase not in wide.columns]
    # What is within wider hours holds what is within narrower ones: the stack is the volumes themselves.
    wide = wide.with_columns(absent).fill_null(0.0)
    opens = (last + pl.col("since")).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return wide.with_columns(opens.dt.convert_time_zone("UTC").alias("ts_open"), pl.lit(sessions).alias("sessions"))


def _drawn(frame: pl.DataFrame, zone: str | None, title: str) -> Any:
    hv = holoviews()
    steps = frame["since"].diff().dt.total_microseconds().drop_nulls().to_list()
    width = min(steps, default=60_000_000) / 1_000
    axis = Axis.of(frame["ts_open"], zone, width)
    x = axis.at(frame["ts_open"])
    layers, below = [], frame["continuous"] * 0
    for phase, (_, colour) in _PHASES.items():
        high = frame[phase]
        data = ((x + width * 0.1).to_numpy(), below.to_numpy(), (x + width * 0.9).to_numpy(), high.to_numpy())
        shape = hv.Rectangles(data, ["x", "volume", "x end", "top"], label=phase)
        layers += [shape.opts(color=colour, line_color=None)] if (high > below).any() else []
        below = high
    named = {"title": title, "ylabel": "volume a session", "ylim": (0, None), "yformatter": figures(counts=True)}
    return placed(hv.Overlay(layers), axis, dates=False, **named)
