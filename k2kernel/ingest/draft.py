"""From what columns are called and hold to the TOML of a profile."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal

from k2kernel.errors import FileFault
from k2kernel.ingest.recognise import KINDS, Column, bars, by_name, european, mixed, number, roles
from k2kernel.sources import Member

_NUMBERS = {"trades": ("price", "size"), "quotes": ("bid_px", "ask_px", "bid_sz", "ask_sz")}
_OTHERS = {"trades": ("sequence", "exec_venue", "trade_id", "status", "corrects"), "quotes": ("sequence", "exec_venue")}
_EUROPEAN, _THOUSANDS, _COMMA = [["\\.", ""], [",", "."]], [[",", ""]], [[",", "."]]
_BRACKETS = json.dumps([["[\\[\\]\"']", ""]])
_SIDES = {"buy": "buy", "b": "buy", "bid": "buy", "sell": "sell", "s": "sell", "ask": "sell", "a": "sell"}


def draft(member: Member, form: dict[str, object], columns: list[Column], remarks: list[str]) -> str:
    """The TOML, with a comment wherever something should be checked."""
    found = roles(columns)
    tables, comma = _tables(found), european(found, form.get("delimiter"))
    if tables == ["trades"] and (kind := mixed(columns)) is not None:
        found["kind"] = kind
    if len(tables) == 1 and "kind" in found:
        name = found["kind"].name
        remarks = [*remarks, f"only rows that are {tables[0]} by {name} are taken, the others are skipped and counted"]
    if four := bars(columns, found):
        remedy = "Load the ticks that they were made of: bars are made of trades and quotes"
        raise FileFault(member.name, f"holds bars, with {', '.join(four)} as open, high, low and close", remedy)
    if not all(by_name(role, column) for role, column in found.items()):
        remarks = [*remarks, "columns without a telling name were guessed by their values"]
    remarks += [f"no column of {name} was found" for name in _lacking(tables, found)]
    title = f"{' and '.join(tables)} as in {member.path.name}"
    lines = [
        f"# A draft for {member.path.name}, made from its first lines: read it through, then try it with",
        f"# k2 ingest {member.path.name} --profile THIS.toml --dry-run",
        *(f"# CHECK: {remark}" for remark in remarks),
        f"title = {_text(title)}",
        "tried = false",
        "",
        "[file]",
        *_file(form),
    ]
    for table in tables:
        lines += _route(table, found, columns, comma=comma, among="kind" in found)
    if "kind" in found:
        lines += ["", "[skip]", f"kind = {_text(found['kind'].name)}"]
    return "\n".join(lines) + "\n"


def _tables(found: dict[str, Column]) -> list[str]:
    """What rows are of: trades, quotes, or both where a column says which."""
    quotes = {"bid_px", "ask_px"} <= found.keys()
    if quotes and {"price", "kind"} <= found.keys():
        return ["trades", "quotes"]
    return ["quotes" if quotes else "trades"]


def _lacking(tables: list[str], found: dict[str, Column]) -> list[str]:
    """What rows are hardly good for anything without."""
    needed = {
        "trades": {"price": "prices", "size": "sizes"},
        "quotes": {"bid_sz": "sizes bid", "ask_sz": "sizes asked"},
    }
    return [name for table in tables for role, name in needed[table].items() if role not in found]


def _route(table: str, found: dict[str, Column], columns: list[Column], *, comma: bool, among: bool) -> list[str]:
    """The lines of one table's route; `among` where rows of the other are in the file, too."""
    values = _values(found, columns, table, comma=comma)
    used = {column.name for name, column in found.items() if among or name in {*values, "date"}}
    keep = [column.name for column in columns if column.name not in used]
    when = []
    if among:
        texts = [text for text in dict.fromkeys(found["kind"].known) if text.lower() in KINDS[table]]
        when = [f"when = {{ column = {_text(found['kind'].name)}, in = {_list(texts)} }}"]
    return [
        "",
        "[[route]]",
        f"table = {_text(table)}",
        *when,
        f"keep = {_list(keep)}  # these go to extra",
        "",
        "[route.columns]",
        *(f"{name} = {value}" for name, value in values.items()),
    ]


def _file(form: dict[str, object]) -> list[str]:
    paths = form.get("columns")
    if not isinstance(paths, dict):
        return [f"{key} = {_toml(value)}" for key, value in form.items()]
    rest = [f"{key} = {_toml(value)}" for key, value in form.items() if key != "columns"]
    return [*rest, "", "[file.columns]", *(f"{_key(name)} = {_text(path)}" for name, path in paths.items())]


def _values(found: dict[str, Column], columns: list[Column], table: str, *, comma: bool) -> dict[str, str]:
    """Each column of the table and its value in TOML, with a comment where it should be checked."""
    made = {name: _key_value(name, found) for name in ("symbol", "venue")}
    made |= {name: _time_value(found[name], found) for name in ("ts_event", "ts_recv") if name in found}
    if not found.keys() & {"ts_event", "ts_recv"}:
        made["ts_event"] = f'{{ column = {_text(columns[0].name)}, layout = "iso8601" }}  # CHECK: no time was found'
    made |= {name: _number_value(found[name], comma=comma) for name in _NUMBERS[table] if name in found}
    made |= {name: _of(found[name]) for name in _OTHERS[table] if name in found}
    if table == "trades" and "side" in found:
        made["side"] = _side_value(found["side"])
    if "conditions" in found:
        made["conditions"] = _conditions_value(found["conditions"])
    return made


def _key_value(name: str, found: dict[str, Column]) -> str:
    if name in found:
        return _of(found[name], first=f"option = {_text(name)}")
    return f"{{ option = {_text(name)} }}  # not found in the file: give --{name}, or write constant = ... instead"


def _time_value(column: Column, found: dict[str, Column]) -> str:
    time = column.time
    parts, remarks = [], []
    if time is None and not column.all(r"\d{1,8}|\d{1,5}\.\d+"):
        return _of(column, 'layout = "iso8601"') + f"  # CHECK: how {column.known[0]!r} says a time: its layout or unit"
    if time is None:
        unit = "s" if any("." in text for text in column.known) else "ms"
        parts.append(f'unit = "{unit}", since = "midnight"')
    else:
        parts.append(f'layout = "{time.layout}"' if time.layout else f'unit = "{time.unit}"')
        parts += [f"replace = {json.dumps(_COMMA)}"] if time.comma else []
        parts += [f"pad = {time.pad}"] if time.pad else []
        remarks += ["whether day or month comes first"] if time.unsure else []
    if time is None or time.local:
        parts.append('zone = "UTC"')
        remarks = remarks if time is not None and time.utc else ["whose local time it is", *remarks]
    if time is None or time.dayless:
        date = found.get("date")
        parts.append(_day(date))
        remarks += ["whether day or month comes first"] if date is not None and date.unsure else []
    return _of(column, *parts) + (f"  # CHECK: {', and '.join(remarks)}" if remarks else "")


def _day(column: Column | None) -> str:
    if column is None:
        return 'date = { option = "date", path = \'((?:19|20)\\d\\d[01]\\d[0-3]\\d)\', layout = "%Y%m%d" }'
    return f'date = {{ column = {_text(column.name)}, layout = "{column.date}" }}'


def _number_value(column: Column, *, comma: bool) -> str:
    if column.style is None:
        odd = next(text for text in column.known if number(text) is None)
        return f"{_of(column)}  # CHECK: {odd!r} is no plain number: say replace or null_if"
    if comma or column.style != "plain":
        replace = _EUROPEAN if comma else _THOUSANDS
        return f"{_of(column, f'replace = {json.dumps(replace)}')}  # CHECK: the decimal mark"
    numbers = [found.normalize() for text in column.known if (found := number(text)) is not None and found.is_finite()]
    if any(found.adjusted() > 9 for found in numbers):
        return f"{_of(column)}  # CHECK: more than 10 digits before the point; is a scale missing?"
    if not any(-int(found.as_tuple().exponent) > 8 for found in numbers):
        return _of(column)
    for places in range(8):
        tick = Decimal(1).scaleb(-places)
        if all(abs(found.quantize(tick) - found) < Decimal("1e-8") for found in numbers):
            bounds = _of(column, f'tick = "{tick:f}"', 'max_error = "0.00000001"')
            return f"{bounds}  # CHECK: printed binary floats"
    return f"{_of(column)}  # CHECK: more than 8 decimals; such rows are rejected"


def _of(column: Column, *parts: str, first: str = "") -> str:
    """The value that a column gives: its name alone where nothing more is to be said, without blanks around it."""
    blanks = ["strip = true"] if any(text != text.strip() for text in column.texts) else []
    rest = [*parts, *blanks]
    if not (first or rest):
        return _text(column.name)
    return f"{{ {', '.join([*filter(None, [first]), f'column = {_text(column.name)}', *rest])} }}"


def _side_value(column: Column) -> str:
    table = {text: _SIDES.get(text.lower(), "") for text in dict.fromkeys(column.known)}
    if set(table) <= {"buy", "sell"}:
        return _of(column)
    entries = ", ".join(f"{_key(text)} = {_text(side)}" for text, side in table.items())
    remark = "  # CHECK: which side each code is of; an empty one is neither" if "" in table.values() else ""
    return f"{_of(column, f'map = {{ {entries} }}')}{remark}"


def _conditions_value(column: Column) -> str:
    if column.all(r"\[.*\]"):
        return _of(column, f"replace = {_BRACKETS}", 'split = ","')
    separator = next((each for each in ";|, " if any(each in text for text in column.known)), None)
    return _of(column, *([f"split = {_text(separator)}"] if separator else []))


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
