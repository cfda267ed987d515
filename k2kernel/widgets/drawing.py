"""Small charts as SVG, quick enough to be drawn several times a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from k2kernel.times import from_ns

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

    def grid(self, label: Callable[[float], str], lines: int = 4) -> str:
        """Horizontal lines with their values at the right."""
        found = ""
        for n in range(lines + 1):
            value = self.y_low + (self.y_high - self.y_low) * n / lines
            y = self.y(value)
            found += f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="{GRID}"/>'
            found += words(WIDTH - RIGHT + 6, y + 4, label(value))
        return found


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
