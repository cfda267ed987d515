"""One route of a profile as expressions: which rows it takes, each contract column, and what makes a row bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from k2kernel import schemas
from k2kernel.decode import values
from k2kernel.decode.instants import Instant, instant
from k2kernel.decode.raw import LINE
from k2kernel.decode.values import Cell, Context, Mapped, Steps
from k2kernel.errors import FileFault, InvalidParameter
from k2kernel.profiles import Route, Value

_LATER = ("session", "ts_ingest", "source")
"""Columns that are filled once the rows are known; a session only where the row does not say its own."""
_ALLOWED = {"side": schemas.SIDES, "status": schemas.STATUSES, "clock": schemas.CLOCKS}


@dataclass(frozen=True)
class Compiled:
    """A route for one member: `takes` rows, makes `columns` of them by `steps`, bad where any column is.

    `fixed_venue` is the venue of all rows, where the profile or an option says it.
    """

    table: schemas.Table
    takes: pl.Expr | None
    fixed_venue: bool
    steps: Steps = field(default_factory=Steps)
    columns: dict[str, Mapped] = field(default_factory=dict)

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
    venue = route.columns.get("venue")
    fixed = venue is not None and (values.given(venue, context) or not (venue.references or venue.expr))
    compiled = Compiled(table, takes, fixed)
    if "ts_event" in table:
        compiled.columns.update(_times(route, context, compiled.steps))
    for column in table.columns:
        if column.name == "session" and "session" in route.columns:
            compiled.columns["session"] = _column(column, route, context, compiled.steps)
        elif column.name not in compiled.columns and column.name not in _LATER:
            made = _column(column, route, context, compiled.steps)
            compiled.columns[column.name] = _required(made) if column.required else made
    return compiled


def _required(mapped: Mapped) -> Mapped:
    missing = pl.lit("is missing")
    if mapped.bad is None:
        return Mapped(mapped.value, mapped.value.is_null(), missing)
    bad = mapped.bad.fill_null(value=False)
    why = missing if mapped.why is None else pl.when(bad).then(mapped.why).otherwise(missing)
    return Mapped(mapped.value, bad | mapped.value.is_null(), why)


def _column(column: schemas.Column, route: Route, context: Context, steps: Steps) -> Mapped:
    if column.name == "source_offset":
        return Mapped(pl.col(LINE))
    if column.name == "extra":
        return Mapped(_extra(route, context))
    value = route.columns.get(column.name)
    if column.type == "list<string>":
        return values.strings(column.name, value or Value(), context, steps)
    if value is None:
        return Mapped(pl.col(LINE) if column.name == "sequence" else pl.lit(None))
    text = values.text_of(value, context)
    if text is None:
        return Mapped(_absent(column, value, context))
    if column.required and column.type == "string":
        text = pl.when(text != "").then(text)
    if values.given(value, context):  # an option is taken as it is
        value = value.model_copy(update={"map": None, "lookup": None})
    mapped = _typed(column, Cell(column.name, steps.text(column.name, text), value, steps))
    return mapped if value.lookup is None else _looked_up(mapped, column, value, context, steps)


def _typed(column: schemas.Column, cell: Cell) -> Mapped:
    match column.type:
        case "decimal":
            return cell.decimal()
        case "int64" | "int32":
            whole = cell.integer(pl.Int64() if column.type == "int64" else pl.Int32())
            if column.name != "sequence":
                return whole
            return Mapped(pl.when(cell.text.is_null()).then(pl.col(LINE)).otherwise(whole.value), whole.bad, whole.why)
        case "bool":
            return cell.boolean()
        case "date":
            layout = cell.value.layout or "%Y-%m-%d"
            return cell.checked(cell.text.str.to_date(layout, strict=False), f"is not a date of layout {layout}")
    return cell.string(_ALLOWED.get(column.name))


def _looked_up(mapped: Mapped, column: schemas.Column, value: Value, context: Context, steps: Steps) -> Mapped:
    """Bad, too, where the lookup does not know the key."""
    key = values.key_of(value, context)
    if key is None or value.lookup is None:
        return mapped
    key = steps.text(f"{column.name}.key", key)
    unknown = key.is_not_null() & pl.col(f"__text.{column.name}").is_null()
    why = pl.concat_str(values.quoted(key), pl.lit(f" is not in {value.lookup.place}"))
    if mapped.bad is None:
        return Mapped(mapped.value, unknown, why)
    return Mapped(mapped.value, mapped.bad | unknown, pl.when(unknown).then(why).otherwise(mapped.why))


def _absent(column: schemas.Column, value: Value, context: Context) -> pl.Expr:
    if value.optional:
        return pl.col(LINE) if column.name == "sequence" else pl.lit(None)
    if value.option and not value.references:
        raise InvalidParameter(value.option, None, "this profile needs it", f"Give --{value.option}")
    missing = ", ".join(sorted(value.references.difference(context.columns)))
    have = ", ".join(sorted(name for name in context.columns if not name.startswith("__")))
    remedy = f"It has {have}: is it the right profile?"
    if value.option:
        remedy = f"Give --{value.option}, or another profile: it has {have}"
    raise FileFault(context.place, f"has no column {missing} (for {column.name})", remedy)


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


def _times(route: Route, context: Context, steps: Steps) -> dict[str, Mapped]:
    given = {name: route.columns.get(name) for name in ("ts_event", "ts_recv")}
    event, recv = (
        None if value is None else _instant(name, value, route, context, steps) for name, value in given.items()
    )
    columns = _pair("ts_recv", recv, given["ts_recv"]) if recv else _no_times("ts_recv")
    if event is None:
        if recv is None:
            raise FileFault(context.place, "has neither ts_event nor ts_recv", "Correct the profile's route")
        required = Instant(recv.ns, recv.ns.is_null(), pl.when(recv.bad).then(recv.why).otherwise(pl.lit("is missing")))
        return columns | _pair("ts_event", required, given["ts_recv"]) | {"clock": Mapped(pl.lit("recv"))}
    fallback = recv is not None and given["ts_event"] is not None and given["ts_event"].optional
    ns = pl.coalesce(event.ns, recv.ns) if fallback and recv is not None else event.ns
    why = pl.when(event.bad).then(event.why).otherwise(pl.lit("is missing"))
    columns |= _pair("ts_event", Instant(ns, event.bad | ns.is_null(), why), given["ts_event"])
    clock = pl.when(event.ns.is_null()).then(pl.lit("recv")).otherwise(pl.lit("venue")) if fallback else pl.lit("venue")
    return columns | {"clock": Mapped(clock)}


def _instant(name: str, value: Value, route: Route, context: Context, steps: Steps) -> Instant | None:
    found = instant(name, value, context, steps)
    if found is None and not value.optional:
        _absent(schemas.TABLES[route.table][name], value, context)
    return found


def _pair(name: str, found: Instant, value: Value | None) -> dict[str, Mapped]:
    """The µs column, and the ns column where the source has ns."""
    micros = (found.ns // 1_000).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    precise = value is not None and value.precision == "ns"
    nanos = found.ns if precise else pl.when(found.ns % 1_000 != 0).then(found.ns)
    return {name: Mapped(micros, found.bad, found.why), f"{name}_ns": Mapped(nanos)}


def _no_times(name: str) -> dict[str, Mapped]:
    return {name: Mapped(pl.lit(None)), f"{name}_ns": Mapped(pl.lit(None))}
