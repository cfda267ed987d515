"""What a profile's values must keep to, beyond their types; each check returns the problem, or nothing."""

from __future__ import annotations

import codecs
import re
from zoneinfo import ZoneInfo

_DIRECTIVES = {
    *"Y C y m b B h d e a A w u U W G g V j D x F v H k I l P p M S R T X r z Z c s t n %".split(),
    *"3f 6f 9f .f .3f .6f .9f :z ::z #z".split(),
}
_DATES, _CLOCKS, _ZONES = "YyCGFDcsjx", "HkIlTRXrcs", "zZ"
_LOOKAROUND = re.compile(r"\(\?<?[=!]|\\[1-9]")


def directives(layout: str) -> list[str]:
    """The directives of a strftime layout, without their percent signs."""
    return re.findall(r"%((?:[.:#]|::)?\d?[A-Za-z%])", layout)


def has_date(layout: str) -> bool:
    """Whether a time of this layout says its day."""
    return layout == "iso8601" or any(name in _DATES for name in directives(layout))


def has_zone(layout: str) -> bool:
    """Whether a time of this layout says its offset from UTC."""
    return layout == "iso8601" or any(name[-1] in _ZONES or name == "s" for name in directives(layout))


def layout_problem(layout: str) -> str:
    """Directives that nobody knows, or that read digits ambiguously."""
    if layout == "iso8601":
        return ""
    if re.search(r"(?<!%)%f", layout):
        return "write %3f, %6f or %9f for digits without a point, %.f for a fraction with one, instead of %f"
    unknown = [name for name in directives(layout) if name not in _DIRECTIVES]
    if unknown or not directives(layout):
        return f"{layout!r} is no strftime layout" + (f": %{unknown[0]} is not known" if unknown else "")
    return ""


def zone_problem(zone: str) -> str:
    """A region that the zone database does not have."""
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return f"{zone!r} is not an IANA time zone such as Australia/Sydney"
    return ""


def offset_problem(offset: str) -> str:
    """An offset that is not written as `-05:00`."""
    return "" if re.fullmatch(r"[+-]\d\d:[0-5]\d", offset) else f"{offset!r} is not an offset such as -05:00"


def encoding_problem(encoding: str) -> str:
    """An encoding that Python does not know."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        return f"{encoding!r} is not an encoding such as utf-8, utf-16, cp1252 or gbk"
    return ""


def regex_problem(pattern: str, groups: int = 0) -> str:
    """A regular expression that does not compile, has too few groups, or looks around (rows are matched in one go)."""
    try:
        found = re.compile(pattern)
    except re.error as exc:
        return f"{pattern!r} is not a regular expression: {exc}"
    if _LOOKAROUND.search(pattern.replace("\\\\", "")):
        return f"{pattern!r} has a look-around or a back-reference, which cannot be used"
    return f"{pattern!r} needs a group in parentheses" if found.groups < groups else ""
