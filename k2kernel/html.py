"""How a notebook shows records: tables of HTML, the one place that makes them.

Styles stand in the elements themselves, so that a table looks the same in a cell, in a widget and in a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Any, ClassVar, Protocol, TypeVar


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=Dataclass)


class Markup(str):
    """A text that is HTML already, and is not escaped."""

    __slots__ = ()


class Spoken:
    """Something that a notebook shows by its sentence."""

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


_CELL = "padding:3px 10px;vertical-align:top;font-variant-numeric:tabular-nums;"
_QUIET = "margin:3px 10px;font-size:12px;color:var(--jp-ui-font-color2,#616161)"
_LONG = 90
"""Letters of a cell that stand in one line."""


class Listing(list[T]):
    """A list of records (dataclasses of one kind), which a notebook shows as a table.

    A record is shown by its fields, or by what its property `row` says. Columns without a value are left out.
    """

    def _repr_html_(self) -> str:
        if not self:
            return "<p>none</p>"
        rows = [getattr(record, "row", None) or facts(record) for record in self]
        names = [name for name in rows[0] if any(row[name] not in _NOTHING for row in rows)]
        cells = [[figure(name, row[name]).removesuffix(" UTC") for name in names] for row in rows]
        numbers = [all(isinstance(row[name], int | Decimal) for row in rows) for name in names]
        zoned = [any(isinstance(row[name], datetime) for row in rows) for name in names]
        headings = [f"{name} (UTC)" if zone else name for name, zone in zip(names, zoned, strict=True)]
        return table(headings, cells, numbers=numbers, below=[f"{len(self)} row{'s' * (len(self) != 1)}"])


_NOTHING: tuple[object, ...] = (None, "", (), [], {})


def facts(record: Dataclass) -> dict[str, object]:
    """The fields of a dataclass by name."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    numbers: Sequence[bool] = (),
    below: Iterable[str] = (),
) -> str:
    """Rows under headings, with a title above and lines of text below; columns of `numbers` stand to the right.

    Texts are escaped.
    """
    right = [*numbers, *(False for _ in headings)]
    heads = zip(headings, right, strict=False)
    head = "".join(f'<th style="{_CELL}{_side(side)}">{escape(name)}</th>' for name, side in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row, right))}</tr>" for row in rows)
    top = f'<p style="margin:4px 10px"><b>{escape(title)}</b></p>' if title else ""
    above = f"<thead><tr>{head}</tr></thead>" if any(headings) else ""
    return f"{top}<table>{above}<tbody>{body}</tbody></table>{quiet(*below)}"


def quiet(*lines: str) -> str:
    """Lines of text that stand back, such as those under a table."""
    return "".join(f'<p style="{_QUIET}">{escape(line)}</p>' for line in lines)


def record(values: Mapping[str, object], title: str = "") -> str:
    """Names and values of one record, those that are None or empty left out."""
    rows = [(name, figure(name, value)) for name, value in values.items() if value not in _NOTHING]
    return table(["", ""], rows, title=title)


def _side(right: bool) -> str:
    return f"text-align:{'right' if right else 'left'}"


def _cell(value: object, right: bool) -> str:
    if isinstance(value, Markup):
        return f'<td style="{_CELL}{_side(right)}">{value}</td>'
    shown = text(value)
    wrap = "normal;overflow-wrap:anywhere;min-width:32em" if len(shown) > _LONG else "nowrap"
    return f'<td style="{_CELL}{_side(right)};white-space:{wrap}">{escape(shown)}</td>'


def states(snapshots: Mapping[str, object]) -> str:
    """The snapshot of each table that has one."""
    found = [f"{name} at {pin}" for name, pin in snapshots.items() if pin is not None]
    return ", ".join(found) or "no snapshot"


def figure(name: str, value: object) -> str:
    """A value as people read it, counts and amounts with commas; ids have none."""
    if not isinstance(value, int | Decimal) or isinstance(value, bool) or name.endswith("id"):
        return text(value)
    return f"{value:,}" if isinstance(value, int) else _plain(f"{value:,f}")


def amount(nbytes: int) -> str:
    """A number of bytes in a unit that makes it short."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:,.1f} {unit}"
    return f"{nbytes:,} bytes"


def text(value: object) -> str:
    """A value as people read it: times in UTC and decimals in plain notation, ids of snapshots as they are."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + (" UTC" if value.tzinfo else "")
    if isinstance(value, Decimal):
        return _plain(f"{value:f}")
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {figure(str(name), found)}" for name, found in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _plain(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
