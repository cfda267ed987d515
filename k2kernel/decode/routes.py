"""One route of a profile as expressions: which rows it takes, each contract column, and what makes a row bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from k2kernel import schemas
from k2kernel.decode import values
from k2kernel.decode.instants import Instant, date, instant
from k2kernel.decode.raw import LINE
from k2kernel.decode.values import Context, Mapped
from k2kernel.errors import FileFault, InvalidParameter
from k2kernel.profiles import Route, Value

_LATER = ("session", "ts_ingest", "source")
"""Columns that are filled once the rows are known."""


@dataclass(frozen=True)
class Compiled:
    """A route for one kind of batch: `takes` rows, makes `columns` of them, `bad` where any column is."""

    table: schemas.Table
    takes: pl.Expr | None
    columns: dict[str, Mapped]

    @property
    def select(self) -> list[pl.Expr]:
        """The contract columns, typed, but those that come later."""
        types = self.table.polars
        return [mapped.value.cast(types[name]).alias(name) for name, mapped in self.columns.items()]

    @property
    def bad(self) -> pl.Expr:
        """True where any column is bad."""
        tests = [mapped.bad.fill_null(value=False) for mapped in self.columns.values() if mapped.bad is not None]
        return pl.any_horizontal(tests) if tests else pl.lit(value=False)

    @property
    def reason(self) -> pl.Expr:
        """`column: what is wrong; …` for a bad row."""
        parts = [
            pl.when(mapped.bad).then(pl.concat_str(pl.lit(f"{name}: "), mapped.why))
            for name, mapped in self.columns.items()
            if mapped.bad is not None and mapped.why is not None
        ]
        return pl.concat_str(parts, separator="; ", ignore_nulls=True)


def compile_route(route: Route, context: Context) -> Compiled:
    """The expressions of a route; `FileFault` for a missing column, `InvalidParameter` for a missing option."""
    table = schemas.TABLES[route.table]
    takes = pl.all_horizontal([values.holds(test, context) for test in route.when]) if route.when else None
    columns = _times(route, context) if "ts_event" in table else {}
    for column in table.columns:
        if column.name not in columns and column.name not in _LATER:
            columns[column.name] = _required(_column(column, route, context), column)
    return Compiled(table, takes, columns)


def _required(mapped: Mapped, column: schemas.Column) -> Mapped:
    if not column.required:
        return mapped
    empty = mapped.value.is_null() | (mapped.value == "") if column.type == "string" else mapped.value.is_null()
    bad = empty if mapped.bad is None else mapped.bad | empty
    why = pl.lit("is missing") if mapped.why is None else pl.when(mapped.bad).then(mapped.why).otherwise(pl.lit("is missing"))
    return Mapped(mapped.value, bad, why)


def _column(column: schemas.Column, route: Route, context: Context) -> Mapped:
    if column.name == "source_offset":
        return Mapped(pl.col(LINE))
    if column.name == "extra":
        return Mapped(_extra(route, context))
    value = route.columns.get(column.name)
    if column.type == "list<string>":
        return Mapped(pl.lit([], pl.List(pl.String))) if value is None else values.strings(value, context)
    if value is None:
        return Mapped(pl.col(LINE) if column.name == "sequence" else pl.lit(None))
    text = values.text_of(value, context)
    if text is None:
        return Mapped(_absent(column, value, context))
    return _typed(column, text, value)


def _typed(column: schemas.Column, text: pl.Expr, value: Value) -> Mapped:
    match column.type:
        case "decimal":
            return values.decimal(text, value)
        case "int64" | "int32":
            whole = values.integer(text, pl.Int64() if column.type == "int64" else pl.Int32())
            return whole if column.name != "sequence" else Mapped(whole.value.fill_null(_if_none(text)), whole.bad, whole.why)
        case "bool":
            return values.boolean(text, value)
        case "date":
            return values.checked(date(text, value), text, f"is not a date of layout {value.layout or '%Y-%m-%d'}")
    allowed = {"side": schemas.SIDES, "status": schemas.STATUSES, "clock": schemas.CLOCKS}.get(column.name)
    return values.string(text, value, allowed)


def _if_none(text: pl.Expr) -> pl.Expr:
    """The ordinal, for a row to which the source gives no sequence number."""
    return pl.when(text.is_null()).then(pl.col(LINE))


def _absent(column: schemas.Column, value: Value, context: Context) -> pl.Expr:
    if value.optional:
        return pl.col(LINE) if column.name == "sequence" else pl.lit(None)
    if value.option and not value.references:
        raise InvalidParameter(value.option, None, "this profile needs it", f"Give --{value.option}")
    missing = sorted(value.references.difference(context.columns))
    have = ", ".join(sorted(name for name in context.columns if not name.startswith("__")))
    raise FileFault(
        context.place, f"has no column {', '.join(missing)} (for {column.name})", f"It has {have}: is it the right profile?"
    )


def _extra(route: Route, context: Context) -> pl.Expr:
    names = [name for name in _kept(route, context.columns) if name in context.columns]
    if not names:
        return pl.lit(None, pl.String)
    some = pl.any_horizontal([pl.col(name).is_not_null() & (pl.col(name) != "") for name in names])
    return pl.when(some).then(pl.struct(names).struct.json_encode())


def _kept(route: Route, columns: Sequence[str]) -> list[str]:
    """What the route keeps; `*` stands for every raw column that it does not name."""
    others = [name for name in columns if name not in route.references] if "*" in route.keep else []
    return list(dict.fromkeys([*(name for name in route.keep if name != "*"), *others]))


def _times(route: Route, context: Context) -> dict[str, Mapped]:
    given = {name: route.columns.get(name) for name in ("ts_event", "ts_recv")}
    event, recv = (None if value is None else _instant(value, name, route, context) for name, value in given.items())
    columns = _pair("ts_recv", recv, given["ts_recv"], context) if recv else _no_times("ts_recv")
    if event is None:
        if recv is None:
            raise FileFault(context.place, "has neither ts_event nor ts_recv", "Correct the profile's route")
        required = Instant(recv.ns, recv.ns.is_null(), recv.why.fill_null("is missing"))
        return columns | _pair("ts_event", required, given["ts_recv"], context) | {"clock": Mapped(pl.lit("recv"))}
    fallback = recv is not None and given["ts_event"] is not None and given["ts_event"].optional
    ns = event.ns.fill_null(recv.ns) if fallback and recv is not None else event.ns
    bad = event.bad | ns.is_null()
    why = pl.when(event.bad).then(event.why).otherwise(pl.lit("is missing"))
    columns |= _pair("ts_event", Instant(ns, bad, why), given["ts_event"], context)
    clock = pl.when(event.ns.is_null()).then(pl.lit("recv")).otherwise(pl.lit("venue")) if fallback else pl.lit("venue")
    declared = route.columns.get("clock")
    return columns | {"clock": Mapped(clock if declared is None else pl.lit(declared.constant))}


def _instant(value: Value, name: str, route: Route, context: Context) -> Instant | None:
    found = instant(value, context)
    if found is None and not value.optional:
        _absent(schemas.TABLES[route.table][name], value, context)
    return found


def _pair(name: str, found: Instant, value: Value | None, context: Context) -> dict[str, Mapped]:
    """The µs column, and the ns column where the source has ns."""
    micros = (found.ns // 1_000).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if value is not None and value.precision == "ns":
        nanos = found.ns
    elif context.fine or (value is not None and value.unit):
        nanos = pl.when(found.ns % 1_000 != 0).then(found.ns)
    else:
        nanos = pl.lit(None, pl.Int64)
    return {name: Mapped(micros, found.bad, found.why), f"{name}_ns": Mapped(nanos)}


def _no_times(name: str) -> dict[str, Mapped]:
    return {name: Mapped(pl.lit(None)), f"{name}_ns": Mapped(pl.lit(None))}
