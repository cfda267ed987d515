"""The values that words may have: the meanings, the magics and OpenAPI list those that the code knows."""

from __future__ import annotations

import re

import pytest

from k2kernel.ingest.repeats import ON_DUPLICATE
from k2kernel.ingest.stream import Bad
from k2kernel.ingest.watch import SCOPES
from k2kernel.magics import sql
from k2kernel.magics.commands import COMMANDS
from k2kernel.query.adjustment import ADJUSTMENTS
from k2kernel.query.asof import BOOKS, SIDES
from k2kernel.query.asof import CLOCKS as ORDERS
from k2kernel.query.bars import SOURCES
from k2kernel.query.engines import ENGINES
from k2kernel.query.hours import WORDS as HOURS
from k2kernel.query.intervals import ALIGNMENTS, FILLS
from k2kernel.query.known import CLOCKS
from k2kernel.query.signs import SIGNS
from k2kernel.replay.engine import TIES
from k2kernel.schemas import KINDS
from tests.test_words import MEANINGS, openapi

VALUES = {
    "ADJUSTMENT": ADJUSTMENTS,
    "ALIGN": ALIGNMENTS,
    "BAD": tuple(Bad),
    "BOOK": BOOKS,
    "CLOCK": CLOCKS,
    "ENGINE": ENGINES,
    "FILL": FILLS,
    "GAPS": SCOPES,
    "HOURS": HOURS,
    "KINDS": KINDS,
    "OF": SOURCES,
    "ON": ORDERS,
    "ON_DUPLICATE": ON_DUPLICATE,
    "ORDER_BY": ORDERS,
    "SIDES": SIDES,
    "SIGN": SIGNS,
    "TIES": TIES,
}
"""The values that the code knows, for the meanings that list them."""


@pytest.mark.parametrize("name", VALUES)
def test_a_meaning_names_every_value(name: str) -> None:
    assert not [value for value in VALUES[name] if not re.search(rf"\b{re.escape(str(value))}\b", MEANINGS[name])]


def test_the_values_that_doors_list_are_those_of_the_code() -> None:
    listed = {option.name: option.choices for known in (sql.OPTIONS, COMMANDS["replay"].options) for option in known}
    assert (listed["clock"], listed["engine"], set(listed["kind"])) == (CLOCKS, ENGINES, set(KINDS))
    schema = (
        openapi()["components"]["schemas"]["ReplayWords"]["properties"]
        | openapi()["components"]["schemas"]["BarWords"]["properties"]
    )
    for name in ("clock", "hours", "of", "align", "fill", "adjustment", "order_by", "ties"):
        assert tuple(schema[name]["enum"]) == tuple(VALUES[name.upper()]), name
