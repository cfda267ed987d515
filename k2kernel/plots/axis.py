"""A time axis without the hours in which nothing happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

_BREAK_MS = 50 * 60_000
"""Silence that is left out: shorter than any market's lunch, longer than a lull."""

_TICKS = """
const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 604800, 2592000]
const [low, high] = [cb_data.range.start, cb_data.range.end]
const step = 1000 * (steps.find(s => (high - low) / (s * 1000) <= most) ?? 7776000)
const room = (high - low) / most / 2
let ticks = []
for (const [begin, end, wall] of parts) {
  const own = []
  for (let at = Math.ceil(wall / step) * step; at <= wall + end - begin; at += step) own.push(begin + at - wall)
  if (own.length == 0 || own[0] - begin > 2 * room) own.unshift(begin)
  ticks = ticks.filter(x => x <= own[0] - room).concat(own)
}
return ticks.filter(x => x >= low && x <= high)
"""
_LABEL = """
const part = parts.findLast(p => tick >= p[0] - 1) ?? parts[0]
const at = new Date(part[2] + tick - part[0])
const [day, clock] = [at.toISOString().slice(0, 10), at.toISOString().slice(11, 19)]
const before = parts.findLast(p => p[0] < part[0] - 1)
const isNew = !before || day != new Date(before[2] + before[1] - before[0]).toISOString().slice(0, 10)
const first = isNew && ticks.find(t => t >= part[0] - 1) === tick
const short = clock.endsWith(":00") ? clock.slice(0, 5) : clock
return days ? day : first && dates ? short + "\\n" + day : short
"""


@dataclass(frozen=True)
class Axis:
    """Maps wall-clock times to positions (ms). `parts` are (first position, last position, wall clock in ms) of each
    stretch without a break.
    """

    parts: tuple[tuple[float, float, float], ...]
    zone: str
    step_ms: float

    @classmethod
    def of(cls, times: pl.Series, zone: str | None, step_ms: float = 0) -> Axis:
        """The axis of UTC times in any order; `step_ms` is the width of what stands at a time, such as a bar."""
        import polars as pl

        wall = _wall(times, zone or "UTC").unique().sort()
        ends = (wall.diff() > max(_BREAK_MS, 1.5 * step_ms)).fill_null(value=True)
        cut = pl.DataFrame({"wall": wall, "part": ends.cum_sum()}).group_by("part", maintain_order=True)
        spans = cut.agg(pl.col("wall").min().alias("low"), pl.col("wall").max().alias("high")).rows()
        pad = max(step_ms, sum(high - low + step_ms for _, low, high in spans) / 100)
        parts: list[tuple[float, float, float]] = []
        for _, low, high in spans:
            begin = parts[-1][1] + pad if parts else 0.0
            parts.append((begin, begin + high - low + step_ms, low))
        return cls(tuple(parts), zone or "UTC", step_ms)

    def at(self, times: pl.Series) -> pl.Series:
        """The positions of UTC times, each within a part or at the end of the one before."""
        import polars as pl

        wall = _wall(times, self.zone)
        parts = pl.DataFrame(self.parts, schema=["begin", "end", "low"], orient="row").cast(pl.Float64)
        given = pl.DataFrame({"wall": wall.cast(pl.Float64)}).with_row_index()
        found = given.sort("wall").join_asof(parts, left_on="wall", right_on="low").sort("index")
        return found.select(
            (pl.col("begin") + pl.col("wall") - pl.col("low")).clip(upper_bound=pl.col("end"))
        ).to_series()

    @property
    def breaks(self) -> list[float]:
        """Where hours are left out."""
        return [begin for begin, _, _ in self.parts[1:]]

    @property
    def label(self) -> str:
        """What to write under the axis."""
        return f"{self.zone}{', hours without data left out' if self.breaks else ''}"

    def options(self, width: int, *, dates: bool = True) -> dict[str, Any]:
        """The options of HoloViews that draw it: ticks at round times of the wall clock, at every zoom.

        `dates` are under the first tick of each stretch.
        """
        from bokeh.models import CustomJSTicker, CustomJSTickFormatter

        parts, days = [list(part) for part in self.parts], self.step_ms >= 86_400_000
        ticker = CustomJSTicker(major_code=_TICKS, args={"parts": parts, "most": width // 90})
        formatter = CustomJSTickFormatter(code=_LABEL, args={"parts": parts, "days": days, "dates": dates})
        return {"xticks": ticker, "xformatter": formatter, "xlabel": self.label}


def _wall(times: pl.Series, zone: str) -> pl.Series:
    """Milliseconds since 1970 on the wall clock of a zone."""
    local = times.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.dt.epoch("us").cast(float) / 1_000
