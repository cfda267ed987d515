"""Pages: one ordered read cut in pieces, each of which begins after the key of the last row before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from k2kernel.query.connection import Query
from k2kernel.query.position import Key

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = "k2_key_"


class Cut(Protocol):
    """Makes the query of the first `most` rows after a key (None: from the first row on), each with its key."""

    def __call__(self, most: int, after: Key | None) -> Query:
        """The query."""


@dataclass(frozen=True)
class Page:
    """Some rows of a read. `more` says whether others follow, and `after` is then the key of the last one here (None
    where the read has no order that it could be gone on in).
    """

    rows: pa.Table
    more: bool
    after: Key | None


def key_columns(expressions: Sequence[str]) -> list[str]:
    """SQL expressions, texts and integers only, as the columns that hold a row's key."""
    return [f"{expression} AS {_KEY}{number}" for number, expression in enumerate(expressions)]


def page(found: pa.Table, limit: int) -> Page:
    """The page of `limit` rows in the answer to a query of one row more."""
    rows, more = found.slice(0, limit), found.num_rows > limit
    names = [name for name in found.column_names if name.startswith(_KEY)]
    key = tuple(_plain(rows[name][-1].as_py()) for name in names) if more and names and limit else None
    return Page(rows.drop_columns(names), more, key)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)


def cut_by(query: Query, order: Sequence[str]) -> Cut:
    """Cuts a query whose rows are in the order of these expressions, texts and integers that no two rows share."""
    return partial(_cut, query, order)


def _cut(query: Query, order: Sequence[str], most: int, after: Key | None) -> Query:
    keys = ", ".join(order)
    values = {f"k2_after_{number}": value for number, value in enumerate(after or ())}
    later = f" WHERE row({keys}) > row({', '.join(f'${name}' for name in values)})" if values else ""
    text = f"SELECT *, {', '.join(key_columns(order))} FROM ({query.text}){later} ORDER BY {keys} LIMIT $k2_most"
    return replace(query, text=text, values={**query.values, **values, "k2_most": most})


def cut_by_place(query: Query) -> Cut:
    """Cuts a query whose rows have an order but nothing that no two of them share: the key is how many came before."""
    return partial(_cut_by_place, query)


def _cut_by_place(query: Query, most: int, after: Key | None) -> Query:
    numbered = f"SELECT *, row_number() OVER () AS {_KEY}0 FROM ({query.text})"
    text = f"SELECT * FROM ({numbered}) WHERE {_KEY}0 > $k2_after_0 ORDER BY {_KEY}0 LIMIT $k2_most"
    return replace(query, text=text, values={**query.values, "k2_after_0": after[0] if after else 0, "k2_most": most})
