"""What the sample's venues are like: hours, instruments, codes. Every price is invented."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

UNIT = 100_000
"""Prices and sizes are counted in units of 0.00001."""

PLAIN, OPENING, CLOSING, CROSSING, OFF_MARKET, EXTENDED, LATE, ODD_LOT, SWEEP, ODD_SWEEP = range(10)
"""What a trade is; a venue's `conditions` spells each."""

Shape = Literal["flat", "u", "auction"]


@dataclass(frozen=True)
class Phase:
    """Part of a session, `first` inclusive to `last` exclusive in minutes after local midnight.

    `trades` and `quotes` are its shares of the session's rows in thousandths; `means` is what its trades are.
    """

    first: int
    last: int
    trades: int
    quotes: int
    shape: Shape = "flat"
    means: int = PLAIN


@dataclass(frozen=True)
class Listing:
    """An instrument: `price` at the start, `tick` and `lot`, all in units of 0.00001."""

    symbol: str
    name: str
    price: int
    tick: int
    lot: int = UNIT
    currency: str = "AUD"


@dataclass(frozen=True)
class Venue:
    """A venue of the sample. `clock_us` is the step of its clock, `latency_us` the range of ts_recv - ts_event.

    Trades of the kinds in `far` have prices far from the market, those in `reported` the last of `exec_venues`.
    """

    code: str
    zone: str
    share: int
    phases: tuple[Phase, ...]
    listings: tuple[Listing, ...]
    conditions: tuple[str, ...]
    exec_venues: tuple[str, str, str, str]
    far: tuple[int, ...] = (OFF_MARKET,)
    reported: tuple[int, ...] = (OFF_MARKET,)
    asset_class: str = "equity"
    clock_us: int = 1
    latency_us: tuple[int, int] | None = None
    daily_move: int = 15
    numbering: Literal["none", "session", "file"] = "session"
    repeats: bool = False
    late: bool = False
    cancels: bool = True
    round_lots: bool = False
    sided: bool = True
    quote_condition: str = ""

    @property
    def opens(self) -> int:
        """First second of the session, after local midnight."""
        return self.phases[0].first * 60

    @property
    def seconds(self) -> int:
        """Length of the session in seconds."""
        return self.phases[-1].last * 60 - self.opens

    def midnight(self, session: date) -> int:
        """Local midnight of `session` in seconds since 1970, by the offset in force at noon."""
        noon = datetime(session.year, session.month, session.day, 12, tzinfo=ZoneInfo(self.zone))
        return int(noon.timestamp()) - 12 * 3_600

    def calendar(self, start: date, sessions: int) -> list[date]:
        """`sessions` trading dates from `start` on: Monday to Friday for equities, every day for crypto."""
        wanted: list[date] = []
        day = start
        while len(wanted) < sessions:
            if self.asset_class == "crypto" or day.weekday() < 5:
                wanted.append(day)
            day += timedelta(days=1)
        return wanted

    def listed(self, count: int) -> tuple[Listing, ...]:
        """The first `count` instruments; past the named ones they are numbered copies."""
        return tuple(self._listing(number) for number in range(count))

    def _listing(self, number: int) -> Listing:
        base = self.listings[number % len(self.listings)]
        if number < len(self.listings):
            return base
        symbol = f"Z{number:03d}{'USDT' if self.asset_class == 'crypto' else ''}"
        return Listing(symbol, f"Sample {number}", base.price, base.tick, base.lot, base.currency)


def _listing(symbol: str, name: str, price: str, tick: str, *, lot: str = "1", currency: str = "AUD") -> Listing:
    return Listing(symbol, name, units(price), units(tick), units(lot), currency)


def units(text: str) -> int:
    """A plain decimal text in units of 0.00001."""
    whole, _, fraction = text.partition(".")
    return int(whole) * UNIT + int(fraction.ljust(5, "0"))


def plain(value: int) -> str:
    """Units of 0.00001 as a plain decimal text without trailing zeros."""
    return f"{value // UNIT}.{value % UNIT:05d}".rstrip("0").rstrip(".")


XASX = Venue(
    code="XASX",
    zone="Australia/Sydney",
    share=45,
    phases=(
        Phase(7 * 60, 10 * 60, trades=4, quotes=60, means=EXTENDED),
        Phase(10 * 60, 10 * 60 + 1, trades=30, quotes=6, shape="auction", means=OPENING),
        Phase(10 * 60 + 1, 16 * 60, trades=880, quotes=900, shape="u"),
        Phase(16 * 60, 16 * 60 + 10, trades=0, quotes=14),
        Phase(16 * 60 + 10, 16 * 60 + 11, trades=80, quotes=5, shape="auction", means=CLOSING),
        Phase(16 * 60 + 11, 18 * 60 + 50, trades=6, quotes=15, means=EXTENDED),
    ),
    listings=(
        _listing("BHP", "BHP Group", "44.10", "0.01"),
        _listing("CBA", "Commonwealth Bank of Australia", "117.40", "0.01"),
        _listing("DVN", "Devine", "0.635", "0.005"),
        _listing("360", "Life360", "8.86", "0.01"),
        _listing("AJX", "Alexium International", "0.051", "0.001"),
        _listing("RIO", "Rio Tinto", "121.70", "0.01"),
        _listing("TLS", "Telstra Group", "3.83", "0.01"),
    ),
    conditions=("", "OA", "CA", "CX", "X", "X;EX", "", "", "", ""),
    exec_venues=("XASX", "CHIA", "CHIA", ""),
    far=(OFF_MARKET, EXTENDED),
    reported=(OFF_MARKET, EXTENDED),
    clock_us=1_000,
    numbering="none",
    repeats=True,
)

XNYS = Venue(
    code="XNYS",
    zone="America/New_York",
    share=35,
    phases=(
        Phase(4 * 60, 9 * 60 + 30, trades=20, quotes=40, means=EXTENDED),
        Phase(9 * 60 + 30, 9 * 60 + 31, trades=25, quotes=5, shape="auction", means=OPENING),
        Phase(9 * 60 + 31, 16 * 60, trades=860, quotes=920, shape="u"),
        Phase(16 * 60, 16 * 60 + 1, trades=75, quotes=5, shape="auction", means=CLOSING),
        Phase(16 * 60 + 1, 20 * 60, trades=20, quotes=30, means=EXTENDED),
    ),
    listings=(
        _listing("IBM", "International Business Machines", "188.20", "0.01", currency="USD"),
        _listing("BHP", "BHP Group ADR", "57.30", "0.01", currency="USD"),
        _listing("F", "Ford Motor", "12.41", "0.01", currency="USD"),
        _listing("BRK.B", "Berkshire Hathaway B", "407.80", "0.01", currency="USD"),
        _listing("KO", "Coca-Cola", "59.35", "0.01", currency="USD"),
    ),
    conditions=("", "O", "6", "B", "4", "T", "Z", "I", "F", "F;I"),
    exec_venues=("XNYS", "ARCX", "XNAS", "FINN"),
    reported=(OFF_MARKET, CROSSING),
    latency_us=(-40, 900),
    late=True,
    round_lots=True,
    sided=False,
    quote_condition="R",
)

BINANCE = Venue(
    code="BINANCE",
    zone="UTC",
    share=20,
    phases=(Phase(0, 24 * 60, trades=1_000, quotes=1_000, shape="u"),),
    listings=(
        _listing("BTCUSDT", "Bitcoin / Tether", "63113.97", "0.01", lot="0.00001", currency="USDT"),
        _listing("ETHUSDT", "Ether / Tether", "3487.82", "0.01", lot="0.0001", currency="USDT"),
        _listing("DOGEUSDT", "Dogecoin / Tether", "0.16472", "0.00001", lot="1", currency="USDT"),
    ),
    conditions=("",) * 10,
    exec_venues=("", "", "", ""),
    asset_class="crypto",
    clock_us=1_000,
    latency_us=(2_000, 80_000),
    daily_move=30,
    numbering="file",
    cancels=False,
)

VENUES = (XASX, XNYS, BINANCE)
