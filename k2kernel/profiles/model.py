"""What a profile's TOML may say. Every key is checked; an unknown one is an error that names it.

A profile has a `[file]` (how bytes become raw text columns), one or more `[[route]]`s (which rows go to which table,
and how raw columns become its columns) and, where routes leave rows out on purpose, a `[skip]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from k2kernel import schemas
from k2kernel.profiles import checks

_TIME_KEYS = ("unit", "since", "date", "zone", "offset", "ambiguous", "precision")
_NUMBER_KEYS = ("scale", "tick", "max_error")
_KEYS_BY_TYPE = {
    "timestamptz": {*_TIME_KEYS, "layout"},
    "date": {"layout"},
    "decimal": {*_NUMBER_KEYS},
    "list<string>": {"split", "map", "unmapped"},
    "string": {"map", "unmapped"},
    "bool": {"map", "unmapped"},
}
"""Keys of a value that only mean something for some types of column."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _texts(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _refuse(*problems: str) -> None:
    """Raise the first problem that there is."""
    for problem in filter(None, problems):
        raise ValueError(problem)


def _value(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


Texts = Annotated[list[str], BeforeValidator(_texts)]


class When(_Part):
    """A test of one raw column, or an SQL `expr` over all; every key that is given must hold."""

    column: str | None = None
    equals: str | None = None
    one_of: list[str] | None = Field(default=None, alias="in")
    matches: str | None = Field(default=None, description="regular expression found anywhere in the text")
    empty: bool | None = Field(default=None, description="true: the text is null or empty; false: it is not")
    expr: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> When:
        tests = [self.equals, self.one_of, self.matches, self.empty]
        if (self.expr is None) == (self.column is None) or (self.column and all(t is None for t in tests)):
            raise ValueError("give `column` with equals, in, matches or empty; or give `expr`")
        _refuse(checks.regex_problem(self.matches or ""))
        return self


class Case(_Part):
    """`value` where `when` holds."""

    when: When
    value: str


class Lookup(_Part):
    """Replace a text by another: `from` and `to` are columns of a lake table, or of a CSV file beside the profile."""

    table: str | None = None
    file: str | None = None
    source: str = Field(alias="from")
    target: str = Field(alias="to")

    @model_validator(mode="after")
    def _one_place(self) -> Lookup:
        if (self.table is None) == (self.file is None):
            raise ValueError("give `table` or `file`")
        return self

    @property
    def place(self) -> str:
        """Where the keys are, for messages: `instruments.vendor_id`."""
        return f"{self.table or self.file}.{self.source}"


class Value(_Part):
    """Where a text comes from and how it is cleaned, in this order: origin, extract, replace, strip, case, pad,
    null_if, lookup, map. The origins are tried in this order: option (when it was given; its text is taken as it is),
    cases (row by row), expr, column or columns (where the file has them), path, constant.
    """

    option: str | None = Field(default=None, description="name of an --option; --symbol, --venue and --date are such")
    cases: list[Case] = []
    expr: str | None = Field(default=None, description="SQL over the raw text columns of the row")
    column: str | None = None
    columns: list[str] = Field(default=[], description="several columns: joined by `join`, or all items of a list")
    join: str = " "
    path: str | None = Field(default=None, description="regex with one group over PATH or PATH!MEMBER")
    constant: str | None = None
    optional: bool = Field(default=False, description="a missing column or no origin at all is null, not an error")

    extract: str | None = Field(default=None, description="regex; its first group is the text, no match is null")
    replace: list[tuple[str, str]] = []
    strip: bool = False
    case: Literal["upper", "lower"] | None = None
    pad: int | None = Field(default=None, description="zeros on the left up to this width")
    null_if: Texts | None = Field(default=None, description="texts that mean null; default: the file's null_if")
    lookup: Lookup | None = None
    map: dict[str, str] | None = None
    unmapped: Literal["reject", "keep", "null"] = "reject"

    scale: Decimal | None = Field(default=None, description="the number is multiplied by this")
    tick: Decimal | None = Field(default=None, description="the number is brought to the nearest multiple of this")
    max_error: Decimal | None = Field(default=None, description="and rejected if that moves it by more than this")
    split: str | None = Field(default=None, description="separator of a list; empty: every character is an item")

    layout: str | None = Field(default=None, description="strftime layout, or `iso8601`")
    unit: Literal["s", "ms", "us", "ns"] | None = None
    since: Literal["epoch", "midnight"] = "epoch"
    date: Annotated[Value | None, BeforeValidator(_value)] = Field(
        default=None, description="the day of a time of day; itself with a layout"
    )
    zone: str | None = Field(default=None, description="region of local times, such as Australia/Sydney")
    offset: str | None = Field(default=None, description="fixed offset of local times, such as -05:00")
    ambiguous: Literal["earliest", "latest", "reject"] = "reject"
    precision: Literal["us", "ns"] = "us"

    @field_validator("scale", "tick", "max_error", mode="before")
    @classmethod
    def _exact(cls, value: object) -> object:
        if isinstance(value, float):
            raise ValueError('write the number as text, such as "0.01", so that it is exact')
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Value:
        if (self.tick is None) != (self.max_error is None):
            raise ValueError("tick and max_error go together")
        if self.layout and self.unit:
            raise ValueError("give layout or unit, not both")
        if self.zone and self.offset:
            raise ValueError("give zone or offset, not both")
        _refuse(
            checks.layout_problem(self.layout) if self.layout is not None else "",
            checks.zone_problem(self.zone) if self.zone is not None else "",
            checks.offset_problem(self.offset) if self.offset is not None else "",
            checks.regex_problem(self.path, groups=1) if self.path is not None else "",
            checks.regex_problem(self.extract, groups=1) if self.extract is not None else "",
            *(checks.regex_problem(pattern) for pattern, _ in self.replace),
        )
        return self

    def time_problem(self) -> str:
        """What it lacks to be a time column."""
        if not (self.layout or self.unit):
            return "give its layout, or its unit"
        dated = checks.has_date(self.layout) if self.layout else self.since == "epoch"
        if dated == (self.date is not None):
            return "its day is given twice: leave out date" if dated else "a time of day needs a date"
        absolute = checks.has_zone(self.layout) if self.layout else self.since == "epoch"
        if not (absolute or self.zone or self.offset):
            return "a local time needs a zone, such as UTC or Australia/Sydney, or an offset"
        if self.unit and absolute and (self.zone or self.offset):
            return "a count since 1970 is in UTC: leave out zone and offset"
        return ""

    @property
    def references(self) -> set[str]:
        """The raw columns that it names (those inside an `expr` are not known)."""
        own = {self.column, *self.columns, *(case.when.column for case in self.cases)}
        return {name for name in own if name} | (self.date.references if self.date else set())


AnyValue = Annotated[Value, BeforeValidator(_value)]


class Format(_Part):
    """How bytes become rows of raw text columns."""

    format: Literal["csv", "ndjson", "parquet"] = "csv"
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    header: bool = True
    columns: list[str] | dict[str, str] = Field(
        default=[], description="names in order where there is no header; for ndjson: name = JSON path"
    )
    prefix: str | None = Field(default=None, description="regex before the JSON of a line; named groups are columns")
    skip_lines: int = Field(default=0, ge=0, description="lines before the header or the first row")
    comment: str | None = Field(default=None, description="lines that begin with this are skipped")
    trailer: str | None = Field(default=None, description="regex of closing lines, skipped and counted")
    no_records: str | None = Field(default=None, description="regex of the line that says that there are no rows")
    members: str = Field(default="*", description="glob of the members of a zip that are read")
    null_if: Texts = Field(default=[], description="texts that mean null in every column")

    @model_validator(mode="after")
    def _consistent(self) -> Format:
        if self.format == "ndjson" and not isinstance(self.columns, dict):
            raise ValueError('ndjson needs columns as a table: name = "$.json.path"')
        if self.format == "csv" and not self.header and not self.columns:
            raise ValueError("a file without a header needs columns = [...]")
        if len(self.delimiter) != 1 or len(self.quote) > 1:
            raise ValueError("delimiter is one character; quote is one, or empty for none")
        _refuse(
            checks.encoding_problem(self.encoding),
            *(checks.regex_problem(pattern or "") for pattern in (self.prefix, self.trailer, self.no_records)),
        )
        return self


class Route(_Part):
    """Rows for which every `when` holds go to `table`, through `columns`; `keep` names raw columns for `extra`."""

    table: str
    when: list[When] = []
    columns: dict[str, AnyValue]
    keep: list[str] = []

    @field_validator("when", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _known(self) -> Route:
        table = schemas.TABLES.get(self.table)
        writable = [name for name in schemas.TABLES if name not in ("dead_letter", "gaps", "ingest_log")]
        if table is None or self.table not in writable:
            raise ValueError(f"table = {self.table!r} is not one of {', '.join(writable)}")
        derived = {"clock", "ts_event_ns", "ts_recv_ns", "extra", "ts_ingest", "source", "source_offset"}
        derived |= set() if table.name == "trades" else {"session"}
        wrong = [name for name in self.columns if name not in table or name in derived]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: not a column of {self.table} that a profile can give")
        _refuse(*(_column_problem(table[name], value) for name, value in self.columns.items()))
        if "ts_event" in table and not {"ts_event", "ts_recv"} & self.columns.keys():
            raise ValueError("columns: give ts_event, or ts_recv where the source has no venue time")
        missing = [name for name in ("symbol", "venue", "kind") if name in table and name not in self.columns]
        if missing:
            raise ValueError(f"columns: {', '.join(missing)} is missing, and {self.table} cannot be without")
        return self

    @property
    def taken(self) -> set[str]:
        """The raw columns that go into a table column or into `extra`."""
        return set(self.keep).union(*(value.references for value in self.columns.values()))

    @property
    def references(self) -> set[str]:
        """The raw columns that the route names, those of its tests among them."""
        return self.taken.union(test.column for test in self.when if test.column)

    @property
    def expressions(self) -> list[str]:
        """Every SQL `expr` of the route, each once."""
        own = [test.expr for test in self.when]
        for value in self.columns.values():
            own += [value.expr, *(case.when.expr for case in value.cases)]
            own += [value.date.expr] if value.date else []
        return list(dict.fromkeys(text for text in own if text))


def _column_problem(column: schemas.Column, value: Value) -> str:
    """A key that means nothing for this type of column, or a time that is not fully described."""
    special = {key for keys in _KEYS_BY_TYPE.values() for key in keys}
    wrong = sorted(value.model_fields_set & special - _KEYS_BY_TYPE.get(column.type, set()))
    if wrong:
        return f"columns.{column.name}: {', '.join(wrong)} means nothing for a column of type {column.type}"
    problem = value.time_problem() if column.type == "timestamptz" else ""
    return problem and f"columns.{column.name}: {problem}"


class Skip(_Part):
    """Rows that no route takes are left out on purpose, and counted under what `kind` says of them."""

    kind: AnyValue | None = None


class Profile(_Part):
    """A vendor format as data."""

    name: str
    title: str
    notes: str = ""
    match: str | None = Field(default=None, description="regex that the path of such a file is likely to have in it")
    tried: bool = Field(default=False, description="true: tried on real files; false: from the vendor's documents")
    file: Format = Format()
    route: list[Route] = Field(min_length=1)
    skip: Skip | None = None
    digest: str = ""
    path: str = ""

    @property
    def expressions(self) -> list[str]:
        """Every SQL `expr` of the profile, each once."""
        kind = [self.skip.kind.expr] if self.skip and self.skip.kind and self.skip.kind.expr else []
        return list(dict.fromkeys([text for route in self.route for text in route.expressions] + kind))

    @property
    def references(self) -> set[str]:
        """The raw columns that anything in the profile names."""
        kind = self.skip.kind.references if self.skip and self.skip.kind else set()
        return kind.union(*(route.references for route in self.route))

    @property
    def options(self) -> list[str]:
        """The option names that the profile reads."""
        values = [value for route in self.route for value in route.columns.values()]
        names = {v.option for value in values for v in (value, value.date) if v is not None and v.option}
        return sorted(names)

    @property
    def lookups(self) -> list[Lookup]:
        """Every lookup that the profile uses."""
        found = [value.lookup for route in self.route for value in route.columns.values() if value.lookup]
        return list(dict.fromkeys(found))

    def dropped(self, columns: Sequence[str] | None = None) -> list[str]:
        """Those of the raw columns (default: those that `file` names) that no table column takes, nor `extra`."""
        names = list(self.file.columns) if columns is None else columns
        if any("*" in route.keep for route in self.route):
            return []
        taken = set().union(*(route.taken for route in self.route))
        text = " ".join(expression for route in self.route for expression in route.expressions)
        return [name for name in names if name not in taken and not re.search(rf"\b{re.escape(name)}\b", text)]
