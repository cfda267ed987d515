"""From what columns are called and hold to the TOML of a profile."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from k2kernel.cached import cached_property
from k2kernel.sources import Member

_NAMES = {
    "ts_recv": "tsrecv localtimestamp localtime receivetime receivedatetime recvtime recvns recvus recvms recvs",
    "ts_event": "tsevent timestamp datetime eventtime exchtime exchangetime transacttime tradetime time ts mdtime t ms",
    "date": "date tradedate day mddate tradingday",
    "symbol": "symbol sym ticker instrument securityid code secid contract product ric s",
    "venue": "venue exchange exch mic market",
    "bid_px": "bidpx bidprice bid bestbid bestbidprice bidpx00 bidprice1 b",
    "ask_px": "askpx askprice ask bestask bestaskprice askpx00 askprice1 offer offerprice a",
    "bid_sz": "bidsz bidsize bidqty bidvolume bidamount bidsz00 bidsize1 bidquantity",
    "ask_sz": "asksz asksize askqty askvolume askamount asksz00 asksize1 askquantity offersize",
    "price": "price px tradeprice lastprice last p",
    "size": "size qty quantity volume tradevolume tradesize tradeqty vol amount q",
    "side": "side aggressor direction buysell bsflag takerside",
    "trade_id": "tradeid id execid matchid t",
    "sequence": "sequence seq seqnum sequencenumber seqno applseqnum",
    "conditions": "conditions condition salecondition qualifiers flags",
    "exec_venue": "execvenue",
    "status": "status",
    "corrects": "corrects",
}
"""What a column of the contract is likely to be called by others (letters and digits only), the likeliest first."""

_DATES = {
    "%Y-%m-%d": r"\d{4}-\d\d-\d\d",
    "%Y.%m.%d": r"\d{4}\.\d\d\.\d\d",
    "%Y/%m/%d": r"\d{4}/\d\d/\d\d",
    "%Y%m%d": r"(?:19|20)\d\d[01]\d[0-3]\d",
    "%d.%m.%Y": r"\d\d\.\d\d\.\d{4}",
    "%m/%d/%Y": r"[01]\d/\d\d/\d{4}",
    "%d/%m/%Y": r"\d\d/\d\d/\d{4}",
}
_CLOCKS = {
    "%H:%M:%S%.f": r"\d\d:\d\d:\d\d(?:\.\d{1,9})?",
    "%H%M%S%9f": r"[012]\d[0-5]\d[0-5]\d\d{9}",
    "%H%M%S%6f": r"[012]\d[0-5]\d[0-5]\d\d{6}",
    "%H%M%S%3f": r"[012]\d[0-5]\d[0-5]\d\d{3}",
    "%H%M%S": r"[012]\d[0-5]\d[0-5]\d",
}
_UNITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
_SIDES = {"buy": "buy", "b": "buy", "bid": "buy", "sell": "sell", "s": "sell", "ask": "sell", "a": "sell"}


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

    def all(self, pattern: str) -> bool:
        """Whether every text has this form."""
        return bool(self.known) and all(re.fullmatch(pattern, text) for text in self.known)

    def layout(self, layouts: dict[str, str]) -> str | None:
        """The first of the layouts that every text has."""
        return next((layout for layout, pattern in layouts.items() if self.all(pattern)), None)


def draft(member: Member, form: dict[str, object], columns: list[Column], remarks: list[str]) -> str:
    """The TOML, with a comment wherever something should be checked."""
    roles = _roles(columns)
    table = "quotes" if {"bid_px", "ask_px"} <= roles.keys() else "trades"
    values = dict(_values(roles, columns, table))
    if not all(column.plain in _NAMES[role].split() for role, column in roles.items()):
        remarks = [*remarks, "columns without a telling name were guessed by their values"]
    used = {column.name for name, column in roles.items() if name in values or name == "date"}
    keep = [column.name for column in columns if column.name not in used]
    lines = [
        f"# A draft for {member.path.name}, made from its first lines: read it through, then try it with",
        f"# k2 ingest {member.path.name} --profile THIS.toml --dry-run",
        *(f"# CHECK: {remark}" for remark in remarks),
        f"title = {_text(f'{table} as in {member.path.name}')}",
        "tried = false",
        "",
        "[file]",
        *_file(form),
        "",
        "[[route]]",
        f"table = {_text(table)}",
        f"keep = {_list(keep)}  # these go to extra",
        "",
        "[route.columns]",
        *(f"{name} = {value}" for name, value in values.items()),
    ]
    return "\n".join(lines) + "\n"


def _file(form: dict[str, object]) -> list[str]:
    paths = form.get("columns")
    if not isinstance(paths, dict):
        return [f"{key} = {_toml(value)}" for key, value in form.items()]
    rest = [f"{key} = {_toml(value)}" for key, value in form.items() if key != "columns"]
    return [*rest, "", "[file.columns]", *(f"{_key(name)} = {_text(path)}" for name, path in paths.items())]


def _roles(columns: list[Column]) -> dict[str, Column]:
    """Which raw column is which of the contract's."""
    found: dict[str, Column] = {}
    for role, names in _NAMES.items():
        for name in names.split():
            free = (each for each in columns if each.plain == name and each not in found.values() and _fits(role, each))
            if role not in found and (match := next(free, None)) is not None:
                found[role] = match
    dates = [column for column in columns if column.layout(_DATES) and column not in found.values()]
    times = [column for column in columns if _time(column) and column not in [*found.values(), *dates]]
    if "ts_event" not in found and times:
        found["ts_event"] = times[0]
    if not found.keys() & {"price", "bid_px"}:
        found |= _by_values([column for column in columns if column not in [*found.values(), *dates]])
    if "date" not in found and dates and "ts_event" in found and found["ts_event"].layout(_CLOCKS):
        found["date"] = dates[0]
    return found


def _by_values(columns: list[Column]) -> dict[str, Column]:
    """Guesses for columns without telling names: a time of day, a bid and an ask of much the same value, or a price."""
    found: dict[str, Column] = {}
    if columns and columns[0].all(r"\d{1,8}") and columns[0].known == sorted(columns[0].known, key=int):
        found["ts_event"] = columns.pop(0)
    decimals = [
        column for column in columns if column.all(r"-?\d+(\.\d+)?") and any("." in text for text in column.known)
    ]
    if len(decimals) > 1 and _alike(*decimals[:2]):
        found |= {"bid_px": decimals[0], "ask_px": decimals[1]}
    elif decimals:
        found["price"] = decimals[0]
    after = columns[columns.index(decimals[-1]) + 1 :] if decimals else []
    sizes = [column for column in after if column.all(r"\d+")]
    return found | dict(zip(("bid_sz", "ask_sz") if "bid_px" in found else ("size",), sizes, strict=False))


def _alike(first: Column, second: Column) -> bool:
    ratios = [Decimal(a) / Decimal(b) for a, b in zip(first.known, second.known, strict=False) if Decimal(b)]
    return bool(ratios) and abs(sorted(ratios)[len(ratios) // 2] - 1) < Decimal("0.02")


def _fits(role: str, column: Column) -> bool:
    if role in ("ts_event", "ts_recv"):
        return _time(column) is not None or (column.plain == "ms" and column.all(r"\d{1,8}"))
    if role == "date":
        return column.layout(_DATES) is not None
    if role in ("price", "size", "bid_px", "ask_px", "bid_sz", "ask_sz"):
        return all(_number(text) is not None for text in column.known)
    return role != "sequence" or column.all(r"\d+")


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _time(column: Column) -> str | None:
    """How the texts say a time: keys of a value in TOML, without its column; None where they do not."""
    dates = {layout: pattern for layout, pattern in _DATES.items() if "%Y%m" not in layout}
    for layout, pattern in dates.items():
        for between in ("T", " "):
            if not column.all(rf"{pattern}{between}\d\d:\d\d:\d\d(\.\d{{1,9}})?(Z|[+-]\d\d:?\d\d)?"):
                continue
            if column.all(r".*(Z|[+-]\d\d:?\d\d)") and layout == "%Y-%m-%d":
                return 'layout = "iso8601"'
            return f'layout = "{layout}{between}%H:%M:%S%.f", zone = "UTC"'
    if clock := column.layout(_CLOCKS):
        return f'layout = "{clock}", zone = "UTC"'
    digits = {len(text) for text in column.known}
    recent = column.all(r"(?:1\d|2[01])\d+")  # 2001 to 2039 in s; other units begin with the same digits
    unit = _UNITS.get(next(iter(digits), 0)) if recent and len(digits) == 1 else None
    return f'unit = "{unit}"' if unit else None


def _values(roles: dict[str, Column], columns: list[Column], table: str) -> list[tuple[str, str]]:
    """Each column of the table and its value in TOML, with a comment where it should be checked."""
    made = [(name, _key_value(name, roles)) for name in ("symbol", "venue")]
    if "ts_event" not in roles and "ts_recv" not in roles:
        first = columns[0].name
        made.append(("ts_event", f'{{ column = {_text(first)}, unit = "ms" }}  # CHECK: no time was found'))
    made += [(name, _time_value(roles[name], roles)) for name in ("ts_event", "ts_recv") if name in roles]
    numbers = ("bid_px", "ask_px", "bid_sz", "ask_sz") if table == "quotes" else ("price", "size")
    made += [(name, _number_value(roles[name])) for name in numbers if name in roles]
    others = ["sequence", "exec_venue"]
    others += [] if table == "quotes" else ["trade_id", "status", "corrects"]
    made += [(name, _text(roles[name].name)) for name in others if name in roles]
    if table == "trades" and "side" in roles:
        made.append(("side", _side_value(roles["side"])))
    if "conditions" in roles:
        made.append(("conditions", _conditions_value(roles["conditions"])))
    return made


def _key_value(name: str, roles: dict[str, Column]) -> str:
    if name in roles:
        return f"{{ option = {_text(name)}, column = {_text(roles[name].name)} }}"
    return f"{{ option = {_text(name)} }}  # not found in the file: give --{name}, or write constant = ... instead"


def _time_value(column: Column, roles: dict[str, Column]) -> str:
    how = _time(column) or 'unit = "ms", since = "midnight", zone = "UTC"'
    parts = [f"column = {_text(column.name)}", how]
    if column.layout(_CLOCKS) or "midnight" in how:
        day = roles.get("date")
        if day is not None:
            parts.append(f'date = {{ column = {_text(day.name)}, layout = "{day.layout(_DATES)}" }}')
        else:
            parts.append('date = { option = "date", path = \'(\\d{8})\', layout = "%Y%m%d" }')
    remark = "  # CHECK: whose local time it is" if "zone" in how else ""
    return f"{{ {', '.join(parts)} }}{remark}"


def _number_value(column: Column) -> str:
    numbers = [number for text in column.known if (number := _number(text)) is not None and number.is_finite()]
    if not any(-int(number.as_tuple().exponent) > 8 for number in numbers):
        return _text(column.name)
    for places in range(8):
        tick = Decimal(1).scaleb(-places)
        if all(abs(number.quantize(tick) - number) < Decimal("1e-8") for number in numbers):
            bounds = f'tick = "{tick:f}", max_error = "0.00000001"'
            return f"{{ column = {_text(column.name)}, {bounds} }}  # CHECK: printed binary floats"
    return f"{_text(column.name)}  # CHECK: more than 8 decimals; such rows are rejected"


def _side_value(column: Column) -> str:
    table = {text: _SIDES.get(text.lower(), "") for text in dict.fromkeys(column.known)}
    if set(table) <= {"buy", "sell"}:
        return _text(column.name)
    entries = ", ".join(f"{_key(text)} = {_text(side)}" for text, side in table.items())
    remark = "  # CHECK: which side each code is of; an empty one is neither" if "" in table.values() else ""
    return f"{{ column = {_text(column.name)}, map = {{ {entries} }} }}{remark}"


def _conditions_value(column: Column) -> str:
    separator = next((each for each in ";|, " if any(each in text for text in column.known)), None)
    split = f", split = {_text(separator)}" if separator else ""
    return f"{{ column = {_text(column.name)}{split} }}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(_text, texts)) + "]"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return _list(value)
    return _text(value) if isinstance(value, str) else str(value)
