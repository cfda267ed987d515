"""What the raw columns of an unknown file are, by what they are called and what they hold: times, numbers, keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from itertools import product

from k2kernel.cached import cached_property

_NAMES = {
    "ts_recv": "tsrecv localtimestamp localtime receivetime receivedatetime recvtime recvns recvus recvms recvs",
    "ts_event": "tsevent timestamp datetime eventtime exchtime exchangetime transacttime participanttimestamp "
    "tradetime createdtime siptimestamp time ts mdtime t ms",
    "date": "date tradedate day mddate tradingday",
    "symbol": "symbol sym ticker instrument instrumentname securityid code secid contract product ric isin s",
    "venue": "venue exchange exch mic market",
    "bid_px": "bidpx bidprice bid bestbid bestbidprice bidpx00 bidprice1 bids0price b",
    "ask_px": "askpx askprice ask bestask bestaskprice askpx00 askprice1 asks0price offer offerprice a",
    "bid_sz": "bidsz bidsize bidqty bidvolume bidamount bidsz00 bidsize1 bidquantity "
    "bestbidqty bestbidsize bidsx bids0amount",
    "ask_sz": "asksz asksize askqty askvolume askamount asksz00 asksize1 askquantity "
    "offersize bestaskqty bestasksize asksx asks0amount",
    "price": "price px tradeprice lastprice last p",
    "size": "size qty quantity volume tradevolume tradesize tradeqty vol amount baseamount lastsize q",
    "side": "side aggressor direction buysell bsflag takerside",
    "trade_id": "tradeid id execid matchid trdmatchid t i",
    "sequence": "sequence seq seqno seqnum sequencenumber tradeseq applseqnum",
    "conditions": "conditions condition cond salecondition qualifiers flags c",
    "exec_venue": "execvenue ex exchange",
    "status": "status",
    "corrects": "corrects",
    "kind": "type eventtype msgtype messagetype recordtype ticktype",
}
"""What a column of the contract is likely to be called by others (letters and digits only), the likeliest first;
`kind` is the one that tells trades from quotes."""

_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_DATES = {
    "%Y-%m-%d": r"\d{4}-\d\d-\d\d",
    "%Y.%m.%d": r"\d{4}\.\d\d\.\d\d",
    "%Y/%m/%d": r"\d{4}/\d\d/\d\d",
    "%Y%m%d": r"(?:19|20)\d\d[01]\d[0-3]\d",
    "%d.%m.%Y": rf"{_DAY}\.{_MONTH}\.\d{{4}}",
    "%m/%d/%Y": rf"{_MONTH}/{_DAY}/\d{{4}}",
    "%d/%m/%Y": rf"{_DAY}/{_MONTH}/\d{{4}}",
    "%m/%d/%y": rf"{_MONTH}/{_DAY}/\d\d",
    "%d/%m/%y": rf"{_DAY}/{_MONTH}/\d\d",
    "%d-%b-%Y": rf"{_DAY}-[A-Za-z]{{3}}-\d{{4}}",
}
_CLOCKS = {
    "%H:%M:%S%.f": r"\d\d:\d\d:\d\d(?:\.\d{1,9})?",
    "%I:%M:%S %p": r"\d\d?:\d\d:\d\d [AaPp][Mm]",
    "%I:%M:%S%.f %p": r"\d\d?:\d\d:\d\d\.\d{1,9} [AaPp][Mm]",
    "%H%M%S%9f": r"[012]\d[0-5]\d[0-5]\d\d{9}",
    "%H%M%S%6f": r"[012]\d[0-5]\d[0-5]\d\d{6}",
    "%H%M%S%3f": r"[012]\d[0-5]\d[0-5]\d\d{3}",
    "%H%M%S": r"[012]\d[0-5]\d[0-5]\d",
    "%H%M%S%.f": r"[012]\d[0-5]\d[0-5]\d\.\d{1,9}",
    "%H:%M": r"\d\d:\d\d",
}
_ZONES = {"Z": "Z", " UTC": " UTC", " GMT": " GMT", " GMT%z": r" GMT[+-]\d{4}", " %z": r" [+-]\d\d:?\d\d"}
_BETWEEN = ("T", " ", "D", "")
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d(:?\d\d)?)"
_UNITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
_NUMBERS = ("price", "size", "bid_px", "ask_px", "bid_sz", "ask_sz")
_POINT = r"[+-]?(0|[1-9]\d{0,2}(,\d{3})*)(\.\d+)?"
_COMMA = r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?"
KINDS = {
    "trades": {"trade", "trades", "t"},
    "quotes": {"quote", "quotes", "q", "bbo"},
}
"""What says in a column of kinds that a row is of the table, in lower case."""


@dataclass(frozen=True)
class Column:
    """A raw column: its name and some of its texts."""

    name: str
    texts: Sequence[str]

    @property
    def plain(self) -> str:
        """The name in lower case, letters and digits only."""
        return re.sub(r"[^a-z0-9]", "", self.name.lower())

    @cached_property
    def known(self) -> list[str]:
        """The texts that are not empty."""
        return [text.strip() for text in self.texts if text.strip()]

    @cached_property
    def distinct(self) -> int:
        """How many different texts there are."""
        return len(set(self.known))

    def all(self, pattern: str) -> bool:
        """Whether every text has this form."""
        return bool(self.known) and all(re.fullmatch(pattern, text) for text in self.known)

    @property
    def unsure(self) -> bool:
        """Whether day and month of its dates could be the other way round."""
        return len({layout[:2] for layout in self.layouts(_DATES)}) > 1

    def layouts(self, known: dict[str, str]) -> list[str]:
        """Those of the layouts that every text has."""
        return [layout for layout, pattern in known.items() if self.all(pattern)]

    @cached_property
    def date(self) -> str | None:
        """The layout of its dates; None where it has others."""
        return next(iter(self.layouts(_DATES)), None)

    @cached_property
    def time(self) -> Time | None:
        """How its texts say a time; None where they do not."""
        return _time(self)

    @cached_property
    def style(self) -> str | None:
        """How its numbers are written: "plain", "point" (1,234.5), "comma" (1.234,5); None where they are none."""
        if all(number(text) is not None for text in self.known):
            return "plain"
        return next((name for name, form in (("point", _POINT), ("comma", _COMMA)) if self.all(form)), None)

    @property
    def numbers(self) -> list[Decimal | None]:
        """The numbers of its texts, by its style."""
        marks = {"comma": (".", ","), "point": (",", ".")}
        thousands, mark = marks.get(self.style or "", ("", "."))
        plain = (text.replace(thousands, "") if thousands else text for text in self.known)
        return [number(text.replace(mark, ".")) for text in plain]


@dataclass(frozen=True)
class Time:
    """How texts say a time: a layout or a unit, whether that is local time, whether it lacks the day, what the decimal
    mark is, whether day and month could be the other way round, the width that zeros on the left fill, and whether it
    ends in a zone that is UTC.
    """

    layout: str | None = None
    unit: str | None = None
    local: bool = False
    dayless: bool = False
    comma: bool = False
    unsure: bool = False
    pad: int | None = None
    utc: bool = False


def number(text: str) -> Decimal | None:
    """The number of a plain text, or None."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _time(column: Column) -> Time | None:
    if column.all(r".*\d\d,\d{1,9}( [AaPp][Mm])?"):
        found = _time(Column(column.name, [text.replace(",", ".") for text in column.known]))
        return found and Time(found.layout, found.unit, found.local, found.dayless, comma=True, unsure=found.unsure)
    if column.all(_ISO):
        return Time("iso8601")
    if (found := _zoned(column)) is not None:
        return found
    dated = {
        f"{date}{between}{clock}": f"{_DATES[date]}{between}{_CLOCKS[clock]}"
        for date, between, clock in product(_DATES, _BETWEEN, _CLOCKS)
        if between or date == "%Y%m%d"
    }
    if layouts := column.layouts(dated):
        return Time(layouts[0], local=True, unsure=len({layout[:2] for layout in layouts}) > 1)
    if layouts := column.layouts(_CLOCKS):
        return Time(layouts[0], local=True, dayless=True)
    return _unpadded(column) or _count(column)


def _unpadded(column: Column) -> Time | None:
    """A time of day in digits without the zero before its hour: 93000123; a count since midnight begins lower."""
    padded = Column(column.name, [text.zfill(9) for text in column.known])
    fits = column.all(r"[5-9]\d{7}|\d{9}") and padded.all(_CLOCKS["%H%M%S%3f"])
    return Time("%H%M%S%3f", local=True, dayless=True, pad=9) if fits else None


def _zoned(column: Column) -> Time | None:
    """A time with its zone or offset behind it."""
    for ending, pattern in _ZONES.items():
        if not column.all(rf".*\d(?: [AaPp][Mm])?{pattern}"):
            continue
        found = _time(Column(column.name, [re.sub(f"{pattern}$", "", text) for text in column.known]))
        if found is not None and found.layout and found.local and not found.pad:
            return replace(found, layout=found.layout + ending, local="%z" not in ending, utc="%z" not in ending)
    return None


def _count(column: Column) -> Time | None:
    """A count since 1970, of 2001 to 2039 in s; other units begin with the same digits."""
    digits = {len(text.partition(".")[0]) for text in column.known}
    recent = column.all(r"(?:1\d|2[01])\d+(\.\d+)?")
    unit = _UNITS.get(next(iter(digits), 0)) if recent and len(digits) == 1 else None
    return Time(unit=unit) if unit else None


def roles(columns: Sequence[Column]) -> dict[str, Column]:
    """Which raw column is which of the contract's; those with telling names first, then by what they hold."""
    found: dict[str, Column] = {}
    for role, names in _NAMES.items():
        for name in names.split():
            free = (each for each in columns if each.plain == name and each not in found.values() and _fits(role, each))
            if role not in found and (match := next(free, None)) is not None:
                found[role] = match
    for guess in (_times, _prices, _symbol, _unreadable):
        found |= guess([column for column in columns if column not in found.values()], found)
    return found


def by_name(role: str, column: Column) -> bool:
    """Whether the name of a column tells its role."""
    return column.plain in _NAMES[role].split()


def _fits(role: str, column: Column) -> bool:
    match role:
        case "ts_event" | "ts_recv":
            fits = column.time is not None or (column.plain == "ms" and column.all(r"\d{1,8}"))
        case "date":
            fits = column.date is not None
        case "venue":
            fits = not column.all(r"\d*")
        case "kind":
            texts = {text.lower() for text in column.known}
            fits = all(texts & names for names in KINDS.values())
        case "trade_id":
            fits = 2 * column.distinct > len(column.known)
        case "sequence":
            fits = column.all(r"\d+")
        case _:
            fits = role not in _NUMBERS or column.style is not None
    return fits


def _times(columns: Sequence[Column], found: dict[str, Column]) -> dict[str, Column]:
    """A column of times where none has a telling name, and one of dates where a time needs its day."""
    guessed: dict[str, Column] = {}
    if not found.keys() & {"ts_event", "ts_recv"}:
        times = [each for each in columns if each.time is not None and not each.date]
        since_midnight = [each for each in columns[:1] if _rising_in_a_day(each)]
        guessed = dict(zip(("ts_event",), [*times, *since_midnight], strict=False))
    needs = [each for role, each in (found | guessed).items() if role.startswith("ts_")]
    dates = [each for each in columns if each.date and each not in guessed.values()]
    if dates and "date" not in found and any(each.time is None or each.time.dayless for each in needs):
        guessed["date"] = dates[0]
    return guessed


def _rising_in_a_day(column: Column) -> bool:
    """Whether it counts seconds or milliseconds since midnight."""
    if not column.all(r"\d{1,8}|\d{1,5}\.\d+"):
        return False
    numbers = [Decimal(text) for text in column.known]
    day = 86_400 if any("." in text for text in column.known) else 86_400_000
    return column.distinct > 1 and numbers == sorted(numbers) and numbers[-1] < day


def _prices(columns: Sequence[Column], found: dict[str, Column]) -> dict[str, Column]:
    """A bid and an ask of much the same value, or a price, and the sizes behind them; nothing where one has a name."""
    if found.keys() & {"price", "bid_px"}:
        return {}
    numbers = [each for each in columns if each.style and each.known and not each.date and each.time is None]
    broken = [each for each in numbers if any(mark in text for text in each.known for mark in ".,")]
    prices = broken or [each for each in numbers if each.distinct > 1]
    if len(prices) > 1 and broken and _alike(*prices[:2]):
        guessed = {"bid_px": prices[0], "ask_px": prices[1]}
    else:
        guessed = dict(zip(("price",), prices, strict=False))
    after = numbers[numbers.index(list(guessed.values())[-1]) + 1 :] if guessed else []
    sizes = ("bid_sz", "ask_sz") if "bid_px" in guessed else ("size",)
    free = [size for size in sizes if size not in found]
    return guessed | dict(zip(free, after if len(sizes) <= len(after) else [], strict=False))


def _alike(first: Column, second: Column) -> bool:
    ratios = [a / b for a, b in zip(first.numbers, second.numbers, strict=False) if a is not None and b]
    return bool(ratios) and abs(sorted(ratios)[len(ratios) // 2] - 1) < Decimal("0.02")


def _symbol(columns: Sequence[Column], found: dict[str, Column]) -> dict[str, Column]:
    """A column of few names."""
    if "symbol" in found:
        return {}
    names = (each for each in columns if each.all(r"(?=.*[A-Z])[A-Z0-9][A-Z0-9._:/=-]+") and _few(each))
    return dict(zip(("symbol",), (each for each in names if not by_name("kind", each)), strict=False))


def _unreadable(columns: Sequence[Column], found: dict[str, Column]) -> dict[str, Column]:
    """Columns that are called times or numbers, mostly hold digits and are neither: their rows are rejected rather than
    loaded without.
    """
    wanted = [] if found.keys() & {"ts_event", "ts_recv"} else ["ts_event"]
    wanted += [] if found.keys() & {"price", "bid_px"} else ["price", "bid_px", "ask_px"]
    wanted += [] if found.keys() & {"size", "bid_sz"} else ["size", "bid_sz", "ask_sz"]
    called = {role: next((each for each in columns if by_name(role, each)), None) for role in wanted}
    return {role: each for role, each in called.items() if each is not None and _mostly_digits(each)}


def _mostly_digits(column: Column) -> bool:
    return 2 * sum(re.search(r"\d", text) is not None for text in column.known) > len(column.known)


def mixed(columns: Sequence[Column]) -> Column | None:
    """The column that says which rows are trades, where others are something else, such as bids and asks."""
    kinds = (each for each in columns if by_name("kind", each))
    return next((each for each in kinds if 0 < sum(map(_is_trade, each.known)) < len(each.known)), None)


def _is_trade(text: str) -> bool:
    return text.lower() in KINDS["trades"]


def bars(columns: Sequence[Column], found: dict[str, Column]) -> list[str]:
    """The names of the columns of open, high, low and close, where rows are bars; none where one is called a price."""
    if any(role in found and by_name(role, found[role]) for role in ("price", "bid_px")):
        return []
    named = {each.plain: each.name for each in columns}
    if {"open", "high", "low", "close"} <= named.keys():
        return [named[name] for name in ("open", "high", "low", "close")]
    numbers = [each for each in columns if each.style and each.known and not each.date and each.time is None]
    fours = zip(numbers, numbers[1:], numbers[2:], numbers[3:], strict=False)
    return next(([each.name for each in four] for four in fours if _like_bars(four)), [])


def _like_bars(four: Sequence[Column]) -> bool:
    """Whether the second is never below the others, the third never above them, and all are of much the same value."""
    rows = [row for row in zip(*(each.numbers for each in four), strict=False) if None not in row]
    prices = [[number for number in row if number is not None] for row in rows]
    bounded = all(row[1] == max(row) and row[2] == min(row) for row in prices)
    moving = any(row[1] > row[2] for row in prices)
    return bounded and moving and _alike(four[0], four[3])


def _few(column: Column) -> bool:
    return 10 * column.distinct <= len(column.known)


def european(found: dict[str, Column], delimiter: object) -> bool:
    """Whether the decimal mark of the numbers is a comma: those of some column can be nothing else; or semicolons are
    between the fields, commas in some numbers and points in none.
    """
    numbers = [found[role] for role in _NUMBERS if role in found and found[role].style]
    texts = [text for each in numbers for text in each.known]
    only = any("," in text for text in texts) and not any("." in text for text in texts)
    return any(each.style == "comma" for each in numbers) or (delimiter == ";" and only)
