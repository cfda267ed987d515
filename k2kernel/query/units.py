"""Units of money: what a price's unit is worth, and which instrument's row says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING

from k2kernel.errors import InvalidParameter, listed
from k2kernel.query.scan import Pinned, Scan, Values, query
from k2kernel.query.selection import Instrument

if TYPE_CHECKING:
    from k2kernel.query.connection import Database

MINOR = {
    **dict.fromkeys(("GBX", "GBp", "GBx", "pence", "penny"), "GBP"),
    **dict.fromkeys(("ZAC", "ZAc"), "ZAR"),
    **dict.fromkeys(("ILA", "ILa", "agorot"), "ILS"),
    **dict.fromkeys(("USX", "USc"), "USD"),
    **dict.fromkeys(("EUX", "EUc"), "EUR"),
    **dict.fromkeys(("AUX", "AUc"), "AUD"),
    **dict.fromkeys(("cent", "cents"), ""),
}
"""Names of a hundredth of a currency (an empty one: of whichever the price is in)."""

_COLUMNS = ("price_currency", "price_unit", "multiplier", "inverse", "start_date", "end_date")


def unit(code: str) -> tuple[str, Fraction]:
    """A currency's code, or the name of its hundredth, as (currency, worth): GBX is (GBP, 1/100)."""
    return (MINOR[code], Fraction(1, 100)) if MINOR.get(code) else (code, Fraction(1))


@dataclass(frozen=True)
class Spec:
    """What an instrument's row says of its money, from session `start` to `end` (both inclusive, None: open)."""

    instrument: Instrument
    price_currency: str | None
    price_unit: str | None = None
    multiplier: Decimal | None = None
    inverse: bool | None = None
    start: date | None = None
    end: date | None = None

    @property
    def currency(self) -> str | None:
        """The currency of the price: of GBX it is GBP."""
        code = self.price_currency or self.price_unit
        return None if code is None else unit(code)[0]

    @property
    def worth(self) -> Fraction:
        """One unit of the price in `currency`; InvalidParameter where nobody says what the unit is."""
        if self.price_currency is not None and unit(self.price_currency)[1] != 1:
            return unit(self.price_currency)[1]
        name = self.price_unit
        if name is None or name == self.price_currency:
            return Fraction(1)
        if name in MINOR and MINOR[name] in ("", self.currency):
            return Fraction(1, 100)
        return self._number(name)

    def _number(self, name: str) -> Fraction:
        try:
            worth = Fraction(Decimal(name))
        except (InvalidOperation, ValueError, OverflowError):
            worth = Fraction(0)
        if worth <= 0:
            of = f"of {self.instrument.symbol} on {self.instrument.venue} is not known beside {self.price_currency}"
            remedy = f"In instruments, give a number such as 0.01, or one of {listed(MINOR)}, or nothing"
            raise InvalidParameter("price_unit", name, of, remedy)
        return worth

    @property
    def factor(self) -> Fraction:
        """What makes money of price * size, or of an inverse instrument's size / price; InvalidParameter where the
        multiplier is not above 0.
        """
        multiplier = Fraction(1) if self.multiplier is None else Fraction(self.multiplier)
        if multiplier <= 0:
            of = f"of {self.instrument.symbol} on {self.instrument.venue} is not above 0"
            raise InvalidParameter("multiplier", str(self.multiplier), of, "Correct it in instruments")
        return multiplier / self.worth if self.inverse else multiplier * self.worth

    def holds(self, day: date) -> bool:
        """True where the row is about the session."""
        return (self.start is None or self.start <= day) and (self.end is None or day <= self.end)


def specs(database: Database, instruments: Pinned, symbols: list[str] | None = None) -> dict[Instrument, list[Spec]]:
    """The rows of `instruments`, of each instrument the one that was loaded last first."""
    values, scan = Values(), Scan(instruments, instruments.files.prune(symbols=symbols))
    where = "" if symbols is None else f" WHERE list_contains({values.bind(symbols)}, symbol)"
    text = (
        f"SELECT symbol, venue, {', '.join(_COLUMNS)} FROM {scan.relation(True, values.bind)}{where} "
        "ORDER BY ts_ingest DESC, source, source_offset DESC"
    )
    found: dict[Instrument, list[Spec]] = {}
    for symbol, venue, *rest in database.rows(query(text, values, scan)):
        spec = Spec(Instrument(symbol, venue), *rest)
        found.setdefault(spec.instrument, []).append(spec)
    return found
