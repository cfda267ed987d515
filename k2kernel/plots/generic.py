"""`chart`: any rows as a line, candles, bars, dots or a histogram, chosen by their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, extra, one_of
from k2kernel.plots.axis import Axis
from k2kernel.plots.candles import drawn
from k2kernel.plots.drawing import DOWN, SERIES, UP, dressed, heading, holoviews, line, placed, some, states, thin
from k2kernel.query import Result

if TYPE_CHECKING:
    import polars as pl

KINDS = ("line", "candle", "bar", "scatter", "hist")
_KNOWN = {"buy": UP, "sell": DOWN}
_MANY, _BINS = 12, 60


def chart(rows: Result | Any, kind: str, *, title: str = "", tz: str | None = None) -> Any:
    """The rows of a result as a chart of a `kind`: line, candle, bar, scatter or hist.

    A candle needs ts_open, open, high, low and close. Of the others the first column is x (a histogram has none), the
    columns of numbers are drawn, and a column of text tells series apart. Times are those of the venue where the rows
    are of one, else UTC, or those of the zone `tz`; hours without rows are left out. A frame of Polars, Arrow or pandas
    will do as well as a result.
    """
    one_of("kind", kind, KINDS)
    frame, zone, facts = _read(rows)
    if kind == "candle":
        return drawn(frame, tz or zone, title or "Candles", *facts)
    asked = _Asked.of(frame, kind, title, facts)
    if kind in ("line", "scatter") and "Datetime" in str(frame.schema[asked.x]):
        return _over_time(asked, tz or zone or "UTC")
    return _histogram(asked) if kind == "hist" else _plain(asked, tz or zone or "UTC")


@dataclass(frozen=True)
class _Asked:
    """Rows to draw: the column of x, those of numbers, one that tells series apart, and what is said of them."""

    frame: pl.DataFrame
    kind: str
    x: str
    numbers: list[str]
    series: str | None
    title: str
    facts: list[str]

    @classmethod
    def of(cls, frame: pl.DataFrame, kind: str, title: str, facts: list[str]) -> _Asked:
        """What the columns of a frame are for."""
        x, others = frame.columns[0], frame.columns if kind == "hist" else frame.columns[1:]
        numbers = [name for name in others if frame.schema[name].is_numeric()]
        if not numbers:
            raise InvalidParameter(
                "plot", kind, "the rows have no column of numbers", "Select one after the first column"
            )
        texts = [name for name in others if str(frame.schema[name]) == "String"]
        series = texts[0] if texts and len(numbers) == 1 and kind != "hist" else None
        by = "" if kind == "hist" else f" by {x}"
        return cls(frame, kind, x, numbers, series, title or f"{', '.join(numbers[:4])}{by}", facts)

    @property
    def label(self) -> str:
        """What to write beside the axis of numbers."""
        return self.numbers[0] if len(self.numbers) == 1 else ""


def _read(rows: Any) -> tuple[pl.DataFrame, str | None, list[str]]:
    """The rows with decimals as floats, the zone of their times, and what there is to say of them."""
    import polars as pl

    is_result = isinstance(rows, Result)
    frame = some(rows.to_polars() if is_result else pl.DataFrame(rows), "rows")
    frame = frame.with_columns(pl.selectors.decimal().cast(pl.Float64))
    return frame, *((rows.zone, [states(rows)] if rows.snapshots else []) if is_result else (None, []))


def _over_time(asked: _Asked, zone: str) -> Any:
    import polars as pl

    naive = pl.col(asked.x).dt.replace_time_zone("UTC")
    frame = asked.frame.drop_nulls(asked.x)
    frame = frame.with_columns(naive) if frame.schema[asked.x] == pl.Datetime("us", None) else frame
    axis = Axis.of(frame[asked.x], zone)
    frame = frame.with_columns(axis.at(frame[asked.x]).alias("x")).sort("x", maintain_order=True)
    layers, facts = [], list(asked.facts)
    for number, (name, column, part) in enumerate(_series(frame, asked)):
        kept, said = thin(part.drop_nulls(column), "x", [column])
        facts += [f"{name}: {said}"] if said else []
        colour = _KNOWN.get(name, SERIES[number % len(SERIES)])
        layers.append(_shape(kept, axis, asked.kind, name, column).opts(color=colour))
    legend = {"show_legend": len(layers) > 1}
    return placed(holoviews().Overlay(layers), axis, title=heading(asked.title, *facts), ylabel=asked.label, **legend)


def _series(frame: pl.DataFrame, asked: _Asked) -> list[tuple[str, str, pl.DataFrame]]:
    """The name, the column and the rows of each series."""
    if asked.series is None:
        return [(name, name, frame) for name in asked.numbers]
    parts = frame.partition_by(asked.series, maintain_order=True)
    return [(str(part[asked.series][0] or "none"), asked.numbers[0], part) for part in parts]


def _shape(part: pl.DataFrame, axis: Axis, kind: str, name: str, column: str) -> Any:
    if kind == "line":
        return line(part, axis, column, name, "value")
    dots = holoviews().Points((part["x"].to_numpy(), part[column].cast(float).to_numpy()), ["x", "value"], label=name)
    return dots.opts(size=4, alpha=0.6, line_color=None)


def _histogram(asked: _Asked) -> Any:
    """Counts in equal steps; what is far from all the rest is left out, and counted."""
    hv = holoviews()
    layers, facts = [], list(asked.facts)
    for number, name in enumerate(asked.numbers):
        values = asked.frame[name].drop_nulls().cast(float)
        low, high = values.quantile(0.005) or 0.0, values.quantile(0.995) or 0.0
        inside = values.filter(values.is_between(low, high)) if _is_wide(values, low, high) else values
        beyond = len(values) - len(inside)
        facts += [f"{name}: {beyond:,} of {len(values):,} off the axis"] if beyond else []
        found = inside.hist(bin_count=_BINS)
        edges = [float(inside.min() or 0), *found["breakpoint"].to_list()]  # type: ignore[arg-type]
        shape = hv.Histogram((edges, found["count"].to_numpy()), kdims="value", vdims="rows", label=name)
        alpha = 1 if len(asked.numbers) == 1 else 0.6
        layers.append(shape.opts(color=SERIES[number % len(SERIES)], line_color="white", line_width=0.5, alpha=alpha))
    legend = {"show_legend": len(layers) > 1}
    return dressed(hv.Overlay(layers), title=heading(asked.title, *facts), xlabel=asked.label, ylabel="rows", **legend)


def _is_wide(values: pl.Series, low: float, high: float) -> bool:
    """Whether a hundredth of the values take more than two thirds of the room."""
    whole = float(values.max() or 0) - float(values.min() or 0)  # type: ignore[arg-type]
    return whole > 3 * (high - low) > 0


def _plain(asked: _Asked, zone: str) -> Any:
    """Over what is no time: hvPlot draws it."""
    import polars as pl

    holoviews()
    with extra("notebook", "hvPlot"):
        from hvplot.plotting.core import hvPlotTabularPolars
    times = pl.selectors.datetime(time_zone="*").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    frame = asked.frame.with_columns(times, pl.selectors.date().cast(pl.String))
    look: dict[str, Any] = {
        "color": list(SERIES[: max(1, len(asked.numbers))]) if asked.series is None else list(SERIES)
    }
    look |= {"line_color": "white"} if asked.kind == "bar" else {}
    by = {} if asked.series is None else {"by": asked.series}
    y = asked.numbers if len(asked.numbers) > 1 else asked.numbers[0]
    made = getattr(hvPlotTabularPolars(frame), asked.kind)(x=asked.x, y=y, legend="top", **by, **look)
    turned = {"xrotation": 45} if asked.kind == "bar" and frame[asked.x].n_unique() > _MANY else {}
    return dressed(made, title=heading(asked.title, *asked.facts), xlabel=asked.x, ylabel=asked.label, **turned)
