"""`Reads`: what every read verb begins with, a pinned table and which of its rows are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from k2kernel.query.catalogue import Catalogue
from k2kernel.query.chosen import Chosen
from k2kernel.query.connection import Database
from k2kernel.query.hours import parse_hours
from k2kernel.query.scan import Pinned
from k2kernel.query.selection import Instrument, Selection, parse_symbols, parse_venue
from k2kernel.query.when import When
from k2kernel.query.within import Wanted, venue_codes, within
from k2kernel.schemas import KINDS
from k2kernel.times import Range

if TYPE_CHECKING:
    from k2kernel.lake import Lake

Symbols = str | Sequence[str] | None
"""One symbol, several, or all of them."""


class Reads:
    """A lake, its DuckDB and what is known of its snapshots."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._database = Database(lake.settings, lambda path: lake.maintenance.expired(path))  # noqa: PLW0108 - loaded when it is needed
        self._catalogue = Catalogue(self._database)

    @property
    def database(self) -> Database:
        """The DuckDB that reads the warehouse."""
        return self._database

    def close(self) -> None:
        """Let go of DuckDB; the next read opens it again."""
        self._database.close()

    def chosen(self, table: str, symbol: Symbols, venue: str | None, wanted: Range, when: When) -> Chosen:
        """The rows that are asked for, for statements of other parts; none where the table has no such state."""
        home = self.lake.settings.home
        if self.lake.state(table, when.as_of) is None:
            return Chosen(Pinned(self.lake, table, None), Selection(wanted), self._database, (), home)
        found = self._selected(table, symbol, venue, wanted, when)
        scan = found.selection.scan(found.pinned)
        codes = venue_codes(found.selection, scan, self._catalogue) if table in KINDS else ()
        return Chosen(found.pinned, found.selection, self._database, tuple(codes), home)

    def _selected(self, table: str, symbol: Symbols, venue: str | None, wanted: Range, when: When) -> Wanted:
        """The pinned table, and which of its rows are asked for.

        Symbols are looked up in the state that is read: one that was not known yet has no rows, and is no error.
        """
        symbols, venue = parse_symbols(symbol), parse_venue(venue)
        pinned = when.pin(self.lake, table)
        if symbols is None:
            return Wanted(pinned, Selection(wanted, None, venue), when)
        base = pinned if when.known_at is None else when.base(self.lake, table)
        elsewhere = partial(self._others, table, when)
        found = (Instrument(name, self._catalogue.venue(base, name, venue, elsewhere)) for name in symbols)
        return Wanted(pinned, Selection(wanted, tuple(found), venue), when)

    def _within(self, wanted: Wanted, hours: str) -> Wanted:
        """The rows within hours of trading."""
        home = self.lake.settings.home
        found = within(wanted.selection, [wanted.pinned], parse_hours(hours), self._catalogue, home)
        return replace(wanted, selection=found.of(wanted.pinned.name))

    def _others(self, table: str, when: When) -> list[Pinned]:
        """The other event tables: a symbol may have quotes and no trades."""
        pins = (when.base_or_none(self.lake, kind) for kind in KINDS if kind != table)
        return [pinned for pinned in pins if pinned is not None]
