"""Small charts as SVG, quick enough to be drawn several times a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from itertools import pairwise
from math import ceil, floor, log10
from zoneinfo import ZoneInfo

from k2kernel.times import NS, from_ns

WIDTH = 860
LEFT, RIGHT, TOP, BOTTOM = 12, 64, 10, 22
TEXT, GRID = "var(--jp-ui-font-color2,#555)", "var(--jp-border-color2,#ddd)"
UP, DOWN, BID, ASK, QUIET = "#16845c", "#c23b3b", "#2b6cb0", "#b7532b", "#64748b"

Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """Maps x (any number) and y to pixels of a picture that is `height` high."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    height: int

    @classmethod
    def around(cls, xs: Sequence[float], ys: Sequence[float], height: int) -> Frame:
        """A frame with a little room above and below."""
        low, high = min(ys), max(ys)
        room = (high - low) * 0.08 or abs(high) * 0.001 or 1.0
        return cls(min(xs), max(xs), low - room, high + room, height)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        share = (value - self.x_low) / (self.x_high - self.x_low) if self.x_high > self.x_low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.height - BOTTOM - share * (self.height - TOP - BOTTOM), 1)

    def steps(self, points: Iterable[Point], colour: str) -> str:
        """A line on which each value holds until the next, and the last to the right end."""
        path, last = "", None
        for x, y in points:
            path += f"H{self.x(x)}V{self.y(y)}" if path else f"M{self.x(x)} {self.y(y)}"
            last = y
        return "" if last is None else f'<path d="{path}H{WIDTH - RIGHT}" fill="none" stroke="{colour}"/>'

    def dot(self, point: Point, radius: float, colour: str, tip: str = "") -> str:
        """A point, with a text that shows where it is pointed at."""
        told = f"<title>{escape(tip)}</title>" if tip else ""
        return f'<circle cx="{self.x(point[0])}" cy="{self.y(point[1])}" r="{radius}" fill="{colour}">{told}</circle>'

    def grid(self, lines: int = 7) -> str:
        """Horizontal lines at round values, which stand at the right."""
        found = ""
        values = rounded(self.y_low, self.y_high, lines)
        for value in values:
            y = self.y(value)
            found += f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="{GRID}"/>'
            found += words(WIDTH - RIGHT + 6, y + 4, number(value, values))
        return found

    def times(self, zone: str | None, most: int = 8) -> str:
        """Round times of the wall clock in a zone (None: UTC) under a picture whose x is ns."""
        offset = local(int(self.x_low), zone).utcoffset() or timedelta()
        wall = int(offset.total_seconds()) * NS
        step = next((each for each in _STEPS_NS if (self.x_high - self.x_low) / each <= most), _STEPS_NS[-1])
        first = -int(-(self.x_low + wall) // step) * step - wall
        found = ""
        for ns in range(first, int(self.x_high) + 1, step):
            x = self.x(ns)
            foot = self.height - BOTTOM
            found += f'<line x1="{x}" x2="{x}" y1="{foot}" y2="{foot + 4}" stroke="{TEXT}"/>'
            found += words(x, self.height - 6, clock(ns, zone), "middle")
        return found


_STEPS_NS = [
    seconds * NS
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)
]


def rounded(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, about so many at most."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** floor(log10(raw))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= raw)
    return [n * step for n in range(ceil(low / step), floor(high / step) + 1)]


def number(value: float, beside: Sequence[float]) -> str:
    """A value with as many decimals as it takes to tell those beside it apart; thousands as k, millions as M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if max(map(abs, beside)) >= 10 * size:
            return f"{value / size:,g}{unit}" if value else "0"
    step = min((abs(b - a) for a, b in pairwise(beside)), default=1.0)
    return f"{value:,.{max(0, -floor(log10(step) + 1e-9))}f}"


def words(x: float, y: float, text: str, anchor: str = "start", colour: str = TEXT) -> str:
    """A text at a place in pixels."""
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'


def picture(height: int, *parts: str) -> str:
    """The parts as one picture."""
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    style = "font-family:var(--jp-ui-font-family,sans-serif);font-size:11px;max-width:100%"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} style="{style}">{"".join(parts)}</svg>'


def clock(ns: float, zone: str | None, form: str = "%H:%M:%S") -> str:
    """An instant in ns on the wall clock of a zone (None: UTC)."""
    return f"{local(int(ns), zone):{form}}"


def local(ns: int, zone: str | None) -> datetime:
    """An instant in ns as a time in a zone (None: UTC)."""
    return from_ns(ns).astimezone(ZoneInfo(zone or "UTC"))
