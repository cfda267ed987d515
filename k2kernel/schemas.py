"""The data contract: every table declared once, and what other systems call its types.

A `Table` is a tuple of `Column`s; Arrow, Polars, DuckDB, Iceberg and Avro schemas are derived from it, never written
beside it. Times are UTC; prices and sizes are exact `decimal(18, 8)`. Field ids belong to the catalog, which gives
them out when it makes a table: code asks the Iceberg table for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from pyiceberg.schema import Schema as IcebergSchema

NAMESPACE = "market_data"
KINDS = ("quotes", "trades")
"""The event tables in the order in which they follow each other at one instant: a quote before a trade."""

SIDES = ("buy", "sell")
STATUSES = ("cancelled", "superseded", "cancel", "correction", "order_cancel")
CLOCKS = ("venue", "recv")

DECIMAL_END = 10**18
"""The least number of 10^-8 that a decimal(18, 8) has no digits for."""

RECEIVED = ("ts_ingest", "source", "source_offset")
"""The columns that say how a row came into a table: who puts it there fills them."""

DUCKDB_TYPES = {
    "string": "VARCHAR",
    "date": "DATE",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "int64": "BIGINT",
    "int32": "INTEGER",
    "bool": "BOOLEAN",
    "binary": "BLOB",
    "decimal": "DECIMAL(18,8)",
    "decimal(38,8)": "DECIMAL(38,8)",
    "decimal(38,16)": "DECIMAL(38,16)",
    "list<string>": "VARCHAR[]",
}
"""The types of the contract, and DuckDB's name of each."""


@dataclass(frozen=True)
class Column:
    """One column: its name, a type of `DUCKDB_TYPES`, whether null is refused, and its meaning."""

    name: str
    type: str
    required: bool = False
    doc: str = ""

    @property
    def duckdb(self) -> str:
        """DuckDB's name of the type."""
        return DUCKDB_TYPES[self.type]


@dataclass(frozen=True)
class Table:
    """A table of the namespace: its columns, the identity partition (or None) and the sort order inside a file."""

    name: str
    columns: tuple[Column, ...]
    sort: tuple[str, ...]
    partition: str | None = None

    @property
    def identifier(self) -> tuple[str, str]:
        """(namespace, name), as the catalog wants it."""
        return NAMESPACE, self.name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The column names in order."""
        return tuple(column.name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema."""
        import pyarrow as pa

        return pa.schema([_arrow_field(pa, column) for column in self.columns])

    @cached_property
    def polars(self) -> dict[str, pl.DataType]:
        """Column name to Polars type, in order."""
        import polars as pl

        types: dict[str, Any] = {
            "string": pl.String(),
            "date": pl.Date(),
            "timestamptz": pl.Datetime("us", "UTC"),
            "int64": pl.Int64(),
            "int32": pl.Int32(),
            "bool": pl.Boolean(),
            "binary": pl.Binary(),
            "decimal": pl.Decimal(18, 8),
            "decimal(38,8)": pl.Decimal(38, 8),
            "decimal(38,16)": pl.Decimal(38, 16),
            "list<string>": pl.List(pl.String()),
        }
        return {column.name: types[column.type] for column in self.columns}

    @cached_property
    def avro(self) -> dict[str, Any]:
        """The Avro schema of a message: the columns that a source knows, those of `RECEIVED` left out."""
        fields = [_avro_field(column) for column in self.columns if column.name not in RECEIVED]
        return {"type": "record", "name": self.name, "namespace": NAMESPACE, "fields": fields}

    @cached_property
    def iceberg(self) -> IcebergSchema:
        """The Iceberg schema to make the table with; its ids are placeholders until the catalog gives out its own."""
        from pyiceberg.schema import Schema

        return Schema(*(_iceberg_field(number, column) for number, column in enumerate(self.columns, start=1)))


def _arrow_field(pa: Any, column: Column) -> pa.Field:
    types = {
        "string": pa.string(),
        "date": pa.date32(),
        "timestamptz": pa.timestamp("us", "UTC"),
        "int64": pa.int64(),
        "int32": pa.int32(),
        "bool": pa.bool_(),
        "binary": pa.binary(),
        "decimal": pa.decimal128(18, 8),
        "decimal(38,8)": pa.decimal128(38, 8),
        "decimal(38,16)": pa.decimal128(38, 16),
        "list<string>": pa.list_(pa.field("element", pa.string())),
    }
    return pa.field(column.name, types[column.type], nullable=not column.required)


def _iceberg_field(number: int, column: Column) -> Any:
    from pyiceberg import types as ice

    types: dict[str, Any] = {
        "string": ice.StringType(),
        "date": ice.DateType(),
        "timestamptz": ice.TimestamptzType(),
        "int64": ice.LongType(),
        "int32": ice.IntegerType(),
        "bool": ice.BooleanType(),
        "binary": ice.BinaryType(),
        "decimal": ice.DecimalType(18, 8),
        "decimal(38,8)": ice.DecimalType(38, 8),
        "decimal(38,16)": ice.DecimalType(38, 16),
        "list<string>": ice.ListType(1_000 + number, ice.StringType(), element_required=False),
    }
    return ice.NestedField(number, column.name, types[column.type], required=column.required, doc=column.doc)


def _avro_field(column: Column) -> dict[str, Any]:
    types: dict[str, Any] = {
        "string": "string",
        "date": {"type": "int", "logicalType": "date"},
        "timestamptz": {"type": "long", "logicalType": "timestamp-micros"},
        "int64": "long",
        "int32": "int",
        "bool": "boolean",
        "binary": "bytes",
        "decimal": {"type": "fixed", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 8},
        "list<string>": {"type": "array", "items": "string"},
    }
    kind = types[column.type]
    if column.type == "decimal":
        kind = {**kind, "name": f"{column.name}_decimal"}  # a fixed type is named, and a name declared once
    field = {"name": column.name, "type": kind if column.required else ["null", kind], "doc": column.doc}
    return field if column.required else {**field, "default": None}


def _table(name: str, declaration: str, sort: str, partition: str | None = None) -> Table:
    """Read a declaration: one column a line, `name type[!] meaning`, `!` for not null."""
    columns = []
    for line in declaration.strip().splitlines():
        column, kind, doc = line.split(maxsplit=2)
        columns.append(Column(column, kind.rstrip("!"), kind.endswith("!"), doc))
    return Table(name, tuple(columns), tuple(sort.split()), partition)


_KEY = """
symbol string! ticker as the venue spells it
venue string! ISO 10383 MIC or declared code of the market that identifies the instrument
exec_venue string participant that the tape names for this row
session date! trading date by the venue's session rule
ts_event timestamptz! when it happened at the venue, or ts_recv where the source has no venue time
clock string! whose clock ts_event is: venue or recv
ts_event_ns int64 the same instant in ns since 1970, where the source has ns
ts_recv timestamptz capture time, by the clock of the recorder
ts_recv_ns int64 the same instant in ns since 1970, where the source has ns
sequence int64! source sequence number, else the ordinal in the source
"""

_TAIL = """
extra string JSON object of the raw vendor fields that the profile keeps
ts_ingest timestamptz! when the row entered the table
source string! digest of the decompressed file, or topic/partition
source_offset int64! line or row in the source, or offset: with source the identity of the row
"""

_EVENT_SORT = "symbol ts_event ts_event_ns venue sequence source source_offset"

TRADES = _table(
    "trades",
    f"""{_KEY.strip()}
trade_id string venue's id of the trade
price decimal exact price
size decimal exact size
side string aggressor: buy or sell
conditions list<string> sale conditions, qualifiers and flags as the source spells them
status string null for a fill; cancelled, superseded, cancel, correction, order_cancel
corrects string trade_id of the trade that this record undoes or replaces
{_TAIL.strip()}""",
    _EVENT_SORT,
    "session",
)

QUOTES = _table(
    "quotes",
    f"""{_KEY.strip()}
bid_px decimal best bid, null where there is none
ask_px decimal best ask, null where there is none
bid_sz decimal size at the best bid
ask_sz decimal size at the best ask
conditions list<string> quote conditions as the source spells them
{_TAIL.strip()}""",
    _EVENT_SORT,
    "session",
)

INSTRUMENTS = _table(
    "instruments",
    f"""symbol string! ticker as the venue spells it
venue string! market that identifies the instrument
vendor_id string the vendor's own id
name string long name
isin string ISO 6166 number
asset_class string equity, fx, crypto, future, option
price_currency string ISO 4217 or asset code of the price
price_unit string what one price unit is, where it is not the currency
size_unit string share, base or contract
multiplier decimal money per point and contract
inverse bool size is quoted in the price currency
tick_size decimal smallest price step
lot_size decimal smallest size step
start_date date first day listed, inclusive
end_date date last day listed, inclusive
{_TAIL.strip()}""",
    "symbol venue source source_offset",
)

CORPORATE_ACTIONS = _table(
    "corporate_actions",
    f"""symbol string! ticker as the venue spells it
venue string! market that identifies the instrument
kind string! dividend, split or merger
declared_date date day it was announced
ex_date date first day without the right
record_date date day of the register
pay_date date day of payment
net_amount decimal amount per share after tax
gross_amount decimal amount per share before tax
ratio decimal new shares per old share
currency string ISO 4217 code of the amounts
{_TAIL.strip()}""",
    "symbol venue source source_offset",
)

DEAD_LETTER = _table(
    "dead_letter",
    """target string table that the row was meant for, where that is known
source string! digest of the decompressed file, or topic/partition
source_offset int64! line or row in the source, or offset
raw binary the row as it came
error string! class of the fault
reason string! what is wrong with the row, in a sentence
schema_id int64 id of the writer's schema, for messages
attempt int32! 1, and one more for each re-drive
ts_ingest timestamptz! when the row entered this table""",
    "source source_offset",
)

INGEST_LOG = _table(
    "ingest_log",
    """table string! table that was written
source string! digest of the decompressed file, or topic/partition
range_start int64! first offset or line, inclusive
range_end int64! end of the offsets or lines, exclusive
rows int64! rows appended
rejected int64! rows sent to dead_letter
snapshot_id int64! snapshot that brought them
committed_at timestamptz! when that snapshot was committed
provenance string the snapshot's k2 keys as a JSON object""",
    "table source range_start",
)

GAPS = _table(
    "gaps",
    """target string! table whose rows the numbers are of
venue string! market of the row that shows it
symbol string! ticker of the row that shows it
session date! its trading date
ts_event timestamptz! when it happened
event string! gap (numbers are missing), reorder (a missing one came late), duplicate, or reset (numbers begin again)
scope string! what the numbers count: instrument or source
expected int64 number that was to come, null at a reset
sequence int64! number that came
missing int64 of a gap, how many numbers were left out
ts_ingest timestamptz! when the row entered this table
source string! topic/partition
source_offset int64! offset of the row that shows it""",
    "symbol ts_event venue source source_offset",
)

TABLES = {
    table.name: table for table in (TRADES, QUOTES, INSTRUMENTS, CORPORATE_ACTIONS, DEAD_LETTER, GAPS, INGEST_LOG)
}
"""Every table of the namespace by name."""

BARS = _table(
    "bars_",
    """symbol string! ticker as the venue spells it
venue string! market that identifies the instrument
session date! trading date
ts_open timestamptz! start of the bar
open decimal first price
high decimal highest price
low decimal lowest price
close decimal last price
volume decimal(38,8) sum of sizes
notional decimal(38,16) sum of price times size
priced_volume decimal(38,8) sum of the sizes that the notional is of
n_trades int64! trades that count for anything
first_sequence int64! sequence of the first trade
last_sequence int64! sequence of the last trade
first timestamptz! time of the first trade
last timestamptz! time of the last trade
first_ns int64! the same in ns since 1970
last_ns int64! the same in ns since 1970
weighted decimal(38,8) sum of price times the ns until the next price, where one follows
from_ns int64 time of the first price, in ns since 1970
to_ns int64 time of the last price, in ns since 1970""",
    "symbol ts_open venue",
    "session",
)
"""States of bars of trades, which are kept in tables whose names begin like this one; made from trades at any time."""


def declared(name: str) -> Table:
    """The table `name` of the namespace: one of `TABLES`, or one of bars."""
    return replace(BARS, name=name) if name.startswith(BARS.name) else TABLES[name]
