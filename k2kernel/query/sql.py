"""Statements of users: read by DuckDB's own parser, refused unless they only read the lake's tables.

What runs is one SELECT, WITH, VALUES, DESCRIBE or SUMMARIZE. It names tables of the lake and common table expressions,
never files, and the table functions `bars`, `unnest`, `range` and `generate_series`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, QueryError, SqlRefused, listed, meant
from k2kernel.query.calls import FUNCTION, Call, calls
from k2kernel.query.connection import Query
from k2kernel.query.references import Travel, travel
from k2kernel.schemas import NAMESPACE, TABLES

if TYPE_CHECKING:
    from k2kernel.query.connection import Database

RAW = "trades_raw"
NAMES = {name: name for name in TABLES} | {RAW: "trades"}
"""What SQL calls the tables: `trades` is the view of the fills that stand, `trades_raw` every row."""

TABLE_FUNCTIONS = ("generate_series", "range", "unnest")
_QUERY_NODES = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
_RELATIONS = ("BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF")
_FORBIDDEN = (
    *("create_sort_key", "currval", "current_setting", "getenv", "getvariable", "json_execute_serialized_sql"),
    *("nextval", "parse_duckdb_log_message", "query", "query_table", "set_config", "setval", "sleep_ms", "stats"),
    *("txid_current", "which_secret"),
)
_FORBIDDEN_PREFIXES = (
    *("__internal", "duckdb_", "glob", "k2_", "pg_", "pragma_"),
    *("read_", "scan_", "sniff_", "write_"),
)
_REMEDY = "One SELECT, WITH, VALUES, DESCRIBE or SUMMARIZE statement over the lake's tables runs"


@dataclass(frozen=True)
class Reference:
    """A table that a statement reads: `relation` is its name in the text, `path` all of the name as written."""

    relation: str
    path: tuple[str, ...]
    start: int | None
    nbytes: int
    has_alias: bool


@dataclass(frozen=True)
class Statement:
    """A statement that may run: its text, its tables, the names of its parameters, and its syntax tree."""

    text: str
    references: tuple[Reference, ...]
    parameters: frozenset[str]
    tree: Mapping[str, Any]
    travels: tuple[Travel, ...] = ()
    calls: tuple[Call, ...] = ()

    @property
    def relations(self) -> list[str]:
        """The distinct tables by the names that the text uses, in lower case."""
        return list(dict.fromkeys(reference.relation for reference in self.references))

    def read_once(self, relation: str) -> bool:
        """Whether the text names a table once."""
        return [reference.relation for reference in self.references].count(relation) == 1


def read(database: Database, text: str, params: Mapping[str, object], arguments: Collection[str] = ()) -> Statement:
    """The statement in `text`, in which `bars` has these arguments; SqlRefused says why it may not run."""
    if not isinstance(text, str) or not text.strip():
        raise SqlRefused("There is no statement", _REMEDY)
    plain, travels = travel(text, params, NAMES)
    plain, made = calls(plain, params, arguments)
    parameters = _one_select(plain)
    tree = _parse(database, plain)
    reader = _Reader({found.relation.lower() for found in travels} | {call.relation for call in made})
    reader.visit(tree, frozenset())
    references = tuple(reader.references)
    rest = _without_namespace(plain, references)
    return Statement(rest, references, parameters, tree, tuple(travels), tuple(made))


def _one_select(text: str) -> frozenset[str]:
    """The names of the parameters of the only statement in `text`."""
    import duckdb

    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as exc:
        raise QueryError(str(exc).strip(), "Correct the statement") from exc
    if len(statements) != 1:
        raise SqlRefused(f"There are {len(statements)} statements", _REMEDY)
    kind = statements[0].type.name
    if kind == "MULTI":
        raise SqlRefused("A PIVOT without a list of values is several statements", "Write PIVOT … ON column IN (…)")
    if kind != "SELECT":
        raise SqlRefused(f"{kind} is not allowed", _REMEDY)
    return frozenset(statements[0].named_parameters)


def _parse(database: Database, text: str) -> dict[str, Any]:
    answer = database.arrow(Query("SELECT json_serialize_sql($text) AS tree", {"text": text}))
    tree = json.loads(answer["tree"][0].as_py())
    if tree["error"] or len(tree["statements"]) != 1:
        raise SqlRefused(tree.get("error_message", "The statement cannot be read"), _REMEDY)
    node: dict[str, Any] = tree["statements"][0]["node"]
    return node


class _Reader:
    """Walks a syntax tree with the common table expressions in scope, and notes the tables."""

    def __init__(self, travelled: set[str]) -> None:
        self.references: list[Reference] = []
        self._travelled = travelled

    def visit(self, node: object, scope: frozenset[str]) -> None:
        """Check a node and everything under it; `scope` are the CTEs that it sees, in lower case."""
        if isinstance(node, list):
            for item in node:
                self.visit(item, scope)
        elif isinstance(node, dict):
            self._check(node, scope)
            inner = self._ctes(node["cte_map"], scope) if "cte_map" in node else scope
            for key, value in node.items():
                if key != "cte_map" and isinstance(value, dict | list):
                    self.visit(value, inner)

    def _ctes(self, cte_map: Mapping[str, Any], scope: frozenset[str]) -> frozenset[str]:
        """Visit the CTEs, each of which sees those before it, and itself only where it is recursive."""
        for entry in cte_map["map"]:
            name, body = entry["key"].lower(), entry["value"]
            recursive = body.get("query_node", {}).get("type") == "RECURSIVE_CTE_NODE"
            self.visit(body, scope | {name} if recursive else scope)
            scope |= {name}
        return scope

    def _check(self, node: Mapping[str, Any], scope: frozenset[str]) -> None:
        kind = str(node.get("type", ""))
        if node.get("class") == "FUNCTION":
            self._check_function(str(node.get("function_name", "")).lower())
        elif "class" not in node and kind.endswith("_NODE") and kind not in _QUERY_NODES:
            raise SqlRefused(f"{kind.removesuffix('_NODE').replace('_QUERY', '')} is not allowed", _REMEDY)
        elif "class" not in node and "sample" in node and kind not in (*_RELATIONS, *_QUERY_NODES):
            raise SqlRefused(f"{kind} is not allowed in FROM", _REMEDY)
        if kind == "BASE_TABLE":
            self._check_table(node, scope)
        elif kind == "TABLE_FUNCTION":
            self._check_table_function(node)
        elif kind == "SHOW_REF" and node.get("query") is None:
            raise SqlRefused("SHOW is not allowed", f"Write DESCRIBE and one of: {listed(sorted(NAMES))}")

    def _check_function(self, name: str) -> None:
        if name in _FORBIDDEN or name.startswith(_FORBIDDEN_PREFIXES):
            raise SqlRefused(f"The function {name} is not allowed", _REMEDY)

    def _check_table_function(self, node: Mapping[str, Any]) -> None:
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            allowed = listed((FUNCTION, *TABLE_FUNCTIONS))
            raise SqlRefused(f"The table function {name} is not allowed here", f"Allowed: {allowed}")

    def _check_table(self, node: Mapping[str, Any], scope: frozenset[str]) -> None:
        path = tuple(node["qualified_name"]["path"])
        name = path[-1].lower()
        if len(path) == 1 and name in scope:
            return
        if name not in self._travelled and (name not in NAMES or path[:-1] not in ((), (NAMESPACE,))):
            near = meant(name, [*NAMES, *scope])
            raise SqlRefused(f"There is no table {'.'.join(path)!r}", f"{near}Tables: {listed(sorted(NAMES))}")
        start, nbytes = node["query_location"], node["query_location_length"]
        located = isinstance(start, int) and start < 1 << 62 and nbytes
        has_alias = bool(node.get("alias"))
        self.references.append(Reference(name, path, start if located else None, nbytes, has_alias))


def _without_namespace(text: str, references: Sequence[Reference]) -> str:
    """The text with `market_data.trades` written `trades`."""
    raw = text.encode()
    for reference in sorted(references, key=lambda item: item.start or 0, reverse=True):
        if len(reference.path) == 1:
            continue
        if reference.start is None:
            raise SqlRefused(f"{NAMESPACE} cannot stand here", f"Write {reference.path[-1]} without it")
        written = raw[reference.start : reference.start + reference.nbytes]
        before, dot, name = written.partition(b".")
        if not dot or before.strip(b'" \t\r\n').lower() != NAMESPACE.encode():
            raise SqlRefused(f"{written.decode(errors='replace')!r} cannot be read", "Write the table's name alone")
        raw = raw[: reference.start] + name + raw[reference.start + reference.nbytes :]
    return raw.decode()


def bound(statement: Statement, params: Mapping[str, object] | Sequence[object] | None) -> dict[str, object]:
    """The values that the statement uses, by name; those for `?` and `$1` are named by their number.

    QueryError names what is missing; InvalidParameter a value that SQL has no type for, or a time without a zone.
    """
    given = named(params)
    missing = sorted(statement.parameters - given.keys())
    if missing:
        names = ", ".join(f"${name}" for name in missing)
        raise QueryError(f"The statement uses {names}, which params does not give", f"Give {missing[0]!r} in params")
    return {name: _value(name, given[name]) for name in sorted(statement.parameters)}


def named(params: Mapping[str, object] | Sequence[object] | None) -> dict[str, object]:
    """Parameters by name, without a leading `$`; those of a list by number from 1."""
    if params is None:
        return {}
    if isinstance(params, Mapping):
        return {str(name).removeprefix("$"): value for name, value in params.items()}
    if isinstance(params, str) or not isinstance(params, Sequence):
        raise InvalidParameter("params", params, "is neither a mapping nor a list", 'Write {"name": value}')
    return {str(number): value for number, value in enumerate(params, start=1)}


def _value(name: str, value: object) -> object:
    for plain in ("tolist", "to_list"):  # scalars and columns of numpy, pandas and Polars
        if hasattr(value, plain):
            return _value(name, getattr(value, plain)())
    if isinstance(value, list | tuple):
        return [_value(name, item) for item in value]
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidParameter(f"params[{name!r}]", value, "has no time zone", "Give one, such as tzinfo=UTC")
    if value is None or isinstance(value, str | bool | int | float | Decimal | date | datetime | bytes):
        return value
    raise InvalidParameter(f"params[{name!r}]", value, "has no SQL type", "Use text, numbers, dates, times or lists")


def conjuncts(statement: Statement) -> dict[str, list[Mapping[str, Any]]]:
    """The AND terms of WHERE that every row of a table must meet, by the name of the table in the text.

    They are of tables that the statement reads once, in a SELECT from nothing else, wherever that stands.
    """
    once = {found.start: found for found in statement.references if statement.read_once(found.relation)}
    found = {}
    for select in _selects(statement.tree):
        table, where = select.get("from_table") or {}, select.get("where_clause")
        reference = once.get(table.get("query_location")) if table.get("type") == "BASE_TABLE" else None
        if reference is not None and where is not None:
            own = {"", (table.get("alias") or reference.path[-1]).lower()}
            terms = where["children"] if where["type"] == "CONJUNCTION_AND" else [where]
            found[reference.relation] = [term for term in terms if _qualifiers(term) <= own]
    return found


def _selects(node: object) -> Iterator[Mapping[str, Any]]:
    """Every SELECT in a syntax tree."""
    if isinstance(node, dict) and node.get("type") == "SELECT_NODE":
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _selects(each)


def _qualifiers(node: object) -> set[str]:
    """What stands before the columns of a term, such as the `t` of `t.symbol`; empty for a column alone."""
    if isinstance(node, dict) and node.get("class") == "COLUMN_REF":
        return {".".join(node["column_names"][:-1]).lower()}
    each = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return {found for inner in each for found in _qualifiers(inner)}
