"""How a notebook shows records: tables of HTML, the one place that makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Any, TypeVar

T = TypeVar("T")


class Listing(list[T]):
    """A list of records (dataclasses of one kind), which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        if not self:
            return "<p>none</p>"
        rows = [facts(record) for record in self]
        return table(list(rows[0]), (list(row.values()) for row in rows), below=[f"{len(self)} rows"])


def facts(record: Any) -> dict[str, object]:
    """The fields of a dataclass by name."""
    assert is_dataclass(record)  # noqa: S101 - our own classes
    return {field.name: getattr(record, field.name) for field in fields(record)}


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[bool] = (),
    below: Iterable[str] = (),
) -> str:
    """Rows under headings, with lines of text below; columns of `numbers` stand to the right. Texts are escaped."""
    right = [*numbers, *(False for _ in headings)]
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row, right))}</tr>" for row in rows)
    foot = "".join(f"<p>{escape(line)}</p>" for line in below)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"


def record(values: Mapping[str, object], caption: str = "") -> str:
    """Names and values of one record, those that are None or empty left out."""
    rows = ((name, value) for name, value in values.items() if value not in (None, (), [], {}))
    return table(["", caption], rows)


def _cell(value: object, right: bool) -> str:
    is_number = right or (isinstance(value, int | Decimal) and not isinstance(value, bool))
    align = "right" if is_number else "left"
    return f'<td style="text-align:{align};white-space:nowrap">{escape(text(value))}</td>'


def text(value: object) -> str:
    """A value as people read it: times in UTC and decimals in plain notation, ids of snapshots as they are."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + (" UTC" if value.tzinfo else "")
    if isinstance(value, Decimal):
        plain = f"{value:f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    if isinstance(value, Mapping):
        return ", ".join(f"{name} at {text(found) or 'no snapshot'}" for name, found in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return str(value)
