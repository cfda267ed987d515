"""A statement of our dialect, which is DuckDB's, as one that means the same to Spark.

Tables become the snapshots that were settled for them, so that both engines read equal states. What the dialects write
alike but compute otherwise is written out: DuckDB divides to DOUBLE, averages in DOUBLE, and has integers of 128 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope

from k2kernel.errors import SqlRefused
from k2kernel.query.connection import Query, identifier
from k2kernel.query.engines import Plan, is_raw
from k2kernel.query.scan import Field, Pinned, Scan, nothing
from k2kernel.schemas import NAMESPACE

_REMEDY = 'Run it with engine="duckdb"'
_STATE = "k2_state"
"""What stands in a text for the rows of a table at a snapshot: `k2_state_<snapshot>_<table>`."""

_INTEGER = "DECIMAL(38, 0)"
_INT128 = (exp.DataType.Type.INT128, exp.DataType.Type.UINT128)


@dataclass(frozen=True)
class Translated:
    """A statement for Spark, and the values of its `:names`."""

    text: str
    values: Mapping[str, object]


class _State(Scan):
    """A pinned table by its name: Spark finds the files, and applies deletes."""

    def _union(self, files: Sequence[object], fields: Sequence[Field], _: Callable[[list[str]], str]) -> str:
        if not files:
            return f"({nothing(fields)})"
        return _rows(self.pinned, fields)


def _rows(pinned: Pinned, fields: Sequence[Field]) -> str:
    """The rows of a pinned table in the columns that it has now: a snapshot has names of its own for the same ids."""
    table = pinned.lake.table(pinned.name)
    snapshot = table.snapshot_by_id(pinned.snapshot_id or 0)
    schema = table.schemas().get(snapshot.schema_id) if snapshot and snapshot.schema_id is not None else None
    then = {field.field_id: field.name for field in (schema or table.schema()).fields}
    columns = (
        f"{identifier(then[field.id]) if field.id in then else 'NULL'}::{field.type} AS {identifier(field.name)}"
        for field in fields
    )
    return f"(SELECT {', '.join(columns)} FROM {_STATE}_{pinned.snapshot_id}_{pinned.name})"


def to_spark(plan: Plan, catalog: str) -> Translated:
    """The statement of a plan for a Spark that calls our catalog `catalog`; SqlRefused where there is none."""
    try:
        tree = _parsed(plan.statement.text)
        values = _named(tree, plan.values, "v")
        made = {name.lower(): _relation(plan, name, values) for name in (*plan.scans, *plan.made)}
        for scope in list(traverse_scope(tree)):
            for source in list(scope.sources.values()):
                if isinstance(source, exp.Table) and source.name.lower() in made:
                    _put(made[source.name.lower()], source)
        return Translated(_written(tree, catalog), values)
    except SqlglotError as exc:
        raise SqlRefused(f"The statement cannot be put for Spark: {str(exc).splitlines()[0]}", _REMEDY) from exc


def _parsed(text: str) -> exp.Expr:
    return parse_one(text, read="duckdb")


def _put(rows: exp.Expr, table: exp.Table) -> None:
    """Rows in the place of a table, under the name that it has there."""
    subquery = exp.Subquery(this=rows.copy(), alias=exp.TableAlias(this=exp.to_identifier(table.alias_or_name, True)))
    for part in ("joins", "pivots", "laterals"):
        subquery.set(part, table.args.get(part))
    table.replace(subquery)


def _relation(plan: Plan, name: str, values: dict[str, object]) -> exp.Expr:
    if name in plan.scans:
        scan = plan.scans[name]
        state = _State(scan.pinned, scan.files, scan.undoing or None)
        return _parsed(f"SELECT * FROM {state.relation(is_raw(name), lambda _: '')}")
    return _bars(plan.made[name].planned, len(values), values)


def _bars(planned: Query, number: int, values: dict[str, object]) -> exp.Expr:
    """The statement of bars, which reads one table by its files, over the table's snapshot."""
    of = {(reading.table, reading.snapshot_id) for reading in planned.readings}
    deleted = any(file.has_deletes for reading in planned.readings for file in reading.files)
    if planned.frames or len(of) != 1 or deleted:
        raise SqlRefused("These bars cannot be put for Spark", f"{_REMEDY}, or compact the table if rows were deleted")
    tree, (table, snapshot) = _parsed(planned.text), of.pop()
    for scanned in list(tree.find_all(exp.ReadParquet)):
        scanned.replace(exp.to_identifier(f"{_STATE}_{snapshot}_{table}"))
    values |= _named(tree, planned.values, f"b{number}")
    return tree


def _named(tree: exp.Expr, values: Mapping[str, object], prefix: str) -> dict[str, object]:
    """Give the placeholders of a tree, those without a name by their number, names of their own, with their values."""
    numbers, found = count(1), {}
    for placeholder in sorted(tree.find_all(exp.Placeholder), key=lambda node: node.meta.get("start", 0)):
        name = str(placeholder.this or next(numbers))
        if name in values:
            found[f"{prefix}_{name}"] = values[name]
            placeholder.set("this", f"{prefix}_{name}")
    return found


def _written(tree: exp.Expr, catalog: str) -> str:
    if any(join.args.get("method") == "ASOF" for join in tree.find_all(exp.Join)):
        raise SqlRefused("Spark has no ASOF JOIN", _REMEDY)
    for node in reversed(list(tree.walk())):  # what is inside first
        made = _node(node, catalog)
        if made is not None:
            node.replace(made)
    return tree.sql("spark")


def _node(node: exp.Expr, catalog: str) -> exp.Expr | None:
    """What an expression becomes, where that is not what sqlglot makes of it."""
    if isinstance(node, exp.Table) and node.name.startswith(f"{_STATE}_"):
        return _state(node, catalog)
    if isinstance(node, exp.DataType) and node.this in _INT128:
        return exp.DataType.build(_INTEGER)
    if isinstance(node, exp.Anonymous):
        make = _FUNCTIONS.get(node.name.lower())
        return None if make is None else make(*node.expressions)
    rule = next((make for kind, make in _RULES if isinstance(node, kind)), None)
    return None if rule is None else rule(node)


def _state(node: exp.Table, catalog: str) -> exp.Expr:
    snapshot, _, table = node.name.removeprefix(f"{_STATE}_").partition("_")
    version = exp.Version(this="VERSION", kind="AS OF", expression=exp.Literal.number(snapshot))
    return exp.Table(
        this=exp.to_identifier(table),
        db=exp.to_identifier(NAMESPACE),
        catalog=exp.to_identifier(catalog, quoted=True),
        version=version,
        alias=node.args.get("alias"),
    )


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))


def _micros(time: exp.Expr) -> exp.Expr:
    return _call("UNIX_MICROS", exp.cast(time.copy(), "TIMESTAMP"))


def _double(node: exp.Expr) -> exp.Expr:
    return exp.cast(exp.paren(node.copy()), "DOUBLE")


def _whole(top: exp.Expr, bottom: exp.Expr) -> exp.Expr:
    """The whole part of top / bottom, of integers of up to 38 digits, exactly: Spark's DIV has 64 bits."""
    left, right = (exp.cast(exp.paren(side.copy()), _INTEGER) for side in (top, bottom))
    rest = exp.Mod(this=left.copy(), expression=right.copy())
    return exp.cast(exp.Div(this=exp.paren(exp.Sub(this=left, expression=exp.paren(rest))), expression=right), _INTEGER)


def _mean(node: exp.Expr) -> exp.Expr | None:
    """An average in DOUBLE, of an exact sum where it stands alone."""
    if isinstance(node.this, exp.Distinct):
        return None
    if isinstance(node.parent, exp.Window | exp.Filter):
        return exp.Avg(this=_double(node.this))
    summed = exp.cast(exp.Sum(this=node.this.copy()), "DOUBLE")
    return exp.paren(exp.Div(this=summed, expression=exp.Count(this=node.this.copy())))


def _masked(node: exp.Expr) -> exp.Expr | None:
    """A mask of the last bits, which Spark has for 64 bits only, as a remainder."""
    mask = node.expression
    if not mask.is_int or (int(mask.name) + 1) & int(mask.name):
        return None
    return _call("PMOD", exp.cast(exp.paren(node.this.copy()), _INTEGER), exp.Literal.number(int(mask.name) + 1))


def _shifted(node: exp.Expr) -> exp.Expr | None:
    if not node.expression.is_int:
        return None
    return _whole(node.this, exp.Literal.number(1 << int(node.expression.name)))


def _by(name: str) -> Callable[[exp.Expr], exp.Expr]:
    """arg_min and arg_max, which pass over rows whose value is null."""

    def make(node: exp.Expr) -> exp.Expr:
        key = exp.Case().when(
            exp.Not(this=exp.Is(this=node.this.copy(), expression=exp.null())), node.expression.copy()
        )
        return _call(name, node.this.copy(), key)

    return make


_FUNCTIONS: Mapping[str, Callable[..., exp.Expr]] = {
    "epoch_us": _micros,
    "epoch_ns": lambda time: exp.Mul(this=_micros(time), expression=exp.Literal.number(1000)),
    "make_timestamptz": lambda us: _call("TIMESTAMP_MICROS", exp.cast(us.copy(), "BIGINT")),
    "row": lambda *items: _call("STRUCT", *(item.copy() for item in items)),
}
_RULES: Sequence[tuple[type[exp.Expr], Callable[[exp.Expr], exp.Expr | None]]] = (
    (exp.Div, lambda node: exp.Div(this=_double(node.this), expression=_double(node.expression))),
    (exp.IntDiv, lambda node: _whole(node.this, node.expression)),
    (exp.BitwiseAnd, _masked),
    (exp.BitwiseRightShift, _shifted),
    (exp.Sign, lambda node: exp.cast(_call("SIGN", node.this.copy()), "INT")),
    (exp.Avg, _mean),
    (exp.ArgMin, _by("MIN_BY")),
    (exp.ArgMax, _by("MAX_BY")),
)
