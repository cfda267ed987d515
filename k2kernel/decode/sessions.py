"""The session column, and venues that nobody declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from k2kernel.cached import cached_property
from k2kernel.calendars import Venue, session_expr, venue, venues
from k2kernel.decode.instants import by_quarter
from k2kernel.errors import UnknownVenue


@dataclass
class Sessions:
    """Venue rules of one load; `home` is where the user's venues are declared."""

    home: Path | None

    @cached_property
    def _known(self) -> Mapping[str, Venue]:
        return venues(self.home)

    def undeclared(self, codes: pl.Series) -> dict[str, UnknownVenue]:
        """Of each code that is no declared venue, the error that says so."""
        return {code: self._error(code) for code in codes.unique().sort() if code not in self._known}

    def _error(self, code: str) -> UnknownVenue:
        try:
            venue(code, self.home)
        except UnknownVenue as exc:
            return exc
        raise AssertionError(code)

    def column(self, rows: pl.DataFrame) -> pl.Series:
        """The session of each row, by its `venue` and `ts_event`."""
        codes = rows["venue"].unique().to_list()
        if len(codes) == 1:
            days = self._days(rows["ts_event"], codes[0])
        else:
            days = pl.zeros(len(rows), pl.Int32, eager=True)
            for code in codes:
                at = (rows["venue"] == code).arg_true()
                days = days.scatter(at, self._days(rows["ts_event"].gather(at), code))
        return days.cast(pl.Date).alias("session")

    def _days(self, instants: pl.Series, code: str) -> pl.Series:
        rule = self._known[code]
        return by_quarter(instants.dt.timestamp("us"), lambda micros: _dates(micros, rule))


def _dates(micros: pl.Series, rule: Venue) -> pl.Series:
    instants = pl.lit(micros.cast(pl.Datetime("us"))).dt.replace_time_zone("UTC")
    return pl.select(session_expr(rule, instants).cast(pl.Int32)).to_series()
