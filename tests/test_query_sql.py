"""SQL of users: what it sees, what is refused, parameters, and time travel in its text."""

from __future__ import annotations

import csv
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from k2kernel.errors import InvalidParameter, K2Error, QueryError, SqlRefused, UnknownReference
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.sinks import FORMATS, encode
from tests.query_lake import DAY, add, at, event


def rows(engine: QueryEngine, text: str, params: Any = None, as_of: Any = None) -> list[tuple[Any, ...]]:
    table = engine.sql(text, params, as_of).to_arrow()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


REFUSED = (
    "DROP TABLE trades",
    "INSERT INTO trades VALUES (1)",
    "UPDATE trades SET price = 1",
    "DELETE FROM trades",
    "CREATE TABLE t AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "ALTER TABLE trades ADD COLUMN x INT",
    "COPY (SELECT 1) TO '{out}'",
    "COPY trades FROM '{secret}'",
    "ATTACH '{out}' AS other",
    "DETACH memory",
    "SET memory_limit = '1TB'",
    "RESET threads",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPORT DATABASE '{out}'",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN TRANSACTION",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "USE memory",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE trades",
    "WITH x AS (INSERT INTO trades VALUES (1) RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM trades RETURNING *) SELECT * FROM x",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_parquet('{warehouse}/**/*.parquet')",
    "SELECT * FROM parquet_metadata('{warehouse}/**/*.parquet')",
    "SELECT * FROM '{secret}'",
    'SELECT * FROM "{secret}"',
    "SELECT * FROM glob('{warehouse}/**')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT (SELECT max(content) FROM read_text('{secret}'))",
    "SELECT * FROM trades WHERE symbol IN (SELECT file FROM glob('/**'))",
    "WITH \"{secret}\" AS (SELECT 1) SELECT * FROM (SELECT 1) a, (SELECT * FROM read_csv('{secret}')) b",
    'SELECT * FROM (WITH "{secret}" AS (SELECT 1) SELECT 1) a, "{secret}" b',
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('trades')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM other.trades",
    "SELECT getenv('HOME')",
    "SELECT current_setting('allowed_directories')",
    "SELECT 'home'.current_setting()",
    "SELECT getvariable('x')",
    "SELECT nextval('x')",
    "SELECT pg_get_viewdef(1)",
    "SELECT write_log('x')",
    "SELECT * FROM json_execute_serialized_sql('{{}}')",
    "PIVOT trades ON side USING sum(size)",
    "",
    " -- nothing",
)


@pytest.mark.parametrize("text", REFUSED)
def test_only_reads_of_the_lakes_tables_run(lake: Lake, engine: QueryEngine, tmp_path: Path, text: str) -> None:
    secret, out = tmp_path / "secret.csv", tmp_path / "out"
    secret.write_text("password\nhunter2\n")
    with pytest.raises(SqlRefused) as caught:
        engine.sql(text.format(secret=secret, out=out, warehouse=lake.settings.warehouse_path))
    assert "hunter2" not in str(caught.value)
    assert not out.exists()


def test_the_instance_itself_reads_the_warehouse_only(engine: QueryEngine, tmp_path: Path) -> None:
    """What the check of the text would miss, the locked instance still denies."""
    import duckdb

    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    cursor = engine._database.cursor()
    for text in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'other.db'}'",
        "SET enable_external_access = true",
        "SET threads = 1",
        "INSTALL httpfs",
    ):
        with pytest.raises(duckdb.Error):
            cursor.execute(text)
    frame = object()  # a Python variable is no table either
    with pytest.raises(duckdb.Error):
        cursor.execute("SELECT * FROM frame")
    assert frame is not None
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM trades",
        "FROM trades SELECT count(*)",
        "WITH t AS (SELECT * FROM trades) SELECT count(*) FROM t",
        "SELECT count(*) FROM market_data.trades",
        'SELECT count(*) FROM "market_data" . "trades" AS t WHERE t.price > 0',
        "SELECT (SELECT count(*) FROM TRADES)",
        "(SELECT count(*) FROM trades)",
        "SELECT count(*) FROM trades;",
        "VALUES (2)",
        "SELECT count(*) FROM range(2)",
        "SELECT count(*) FROM (SELECT unnest([1, 2])) -- trades AT (VERSION => 3)",
        "SELECT count(*) FROM generate_series(1, 2) AS s(x)",
        "SELECT length('it''s; DROP TABLE trades') - 22 FROM quotes RIGHT JOIN (SELECT 1) ON true",
        "SELECT count(*) FROM trades PIVOT (sum(size) FOR side IN ('buy'))",
        "WITH RECURSIVE n AS (SELECT 1 x UNION ALL SELECT x + 1 FROM n WHERE x < 2) SELECT max(x) FROM n",
    ],
)
def test_reads_run(lake: Lake, engine: QueryEngine, text: str) -> None:
    add(lake, "a", [event(), event(price=Decimal(1))])
    assert rows(engine, text)[0][0] in {1, 2}


def test_describe_and_summarize_run(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event()])
    assert rows(engine, "DESCRIBE trades")[0][:2] == ("symbol", "VARCHAR")
    assert len(rows(engine, "SUMMARIZE SELECT price FROM trades")) == 1
    assert len(rows(engine, "DESCRIBE SELECT price, size FROM trades")) == 2


def test_every_table_can_be_read(engine: QueryEngine) -> None:
    names = ("trades", "trades_raw", "quotes", "instruments", "corporate_actions", "dead_letter", "ingest_log")
    assert all(rows(engine, f"SELECT * FROM {name}") == [] for name in names)
    assert engine.sql("SELECT * FROM trades, quotes").snapshots == {"trades": None, "quotes": None}


def test_ctes_and_aliases_shadow_tables(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(), event(symbol="RIO")])
    assert rows(engine, "WITH trades AS (SELECT 7 AS x) SELECT x FROM trades") == [(7,)]
    assert rows(engine, "WITH trades AS (SELECT * FROM trades WHERE symbol = 'RIO') SELECT symbol FROM trades") == [
        ("RIO",)
    ]
    assert rows(engine, "SELECT quotes.symbol FROM trades AS quotes ORDER BY 1") == [("BHP",), ("RIO",)]
    assert rows(engine, "WITH Trades AS (SELECT 1 AS x), t AS (FROM trades) SELECT x FROM t") == [(1,)]
    assert engine.sql("WITH trades AS (SELECT 7 AS x) SELECT x FROM trades").snapshots == {}


def test_the_users_text_reaches_duckdb_unchanged(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event()])
    text = "SELECT count_if(price > 0), 'é'||symbol AS \"Ärger\" FROM trades GROUP BY ALL"
    result = engine.sql(text)
    assert result._query.text == text
    assert result.columns == ["count_if((price > 0))", "Ärger"]


def test_parameters_are_bound_by_name_or_position(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(price=Decimal("1.5")), event(symbol="RIO", ts_event=at(5))])
    assert rows(engine, "SELECT symbol FROM trades WHERE symbol = $s", {"s": "RIO", "unused": object()}) == [("RIO",)]
    assert rows(engine, "SELECT symbol FROM trades WHERE symbol = ? AND price > ?", ["RIO", 1]) == [("RIO",)]
    assert rows(engine, "SELECT symbol FROM trades WHERE list_contains($l, symbol)", {"l": ["RIO", "X"]}) == [("RIO",)]
    values = {"d": DAY, "t": at(1), "p": Decimal("1.50"), "i": 2**100, "n": None, "b": True, "$f": 1.5}
    text = "SELECT symbol, $i, $n, $b, $f FROM trades WHERE session = $d AND ts_event < $t AND price = $p"
    assert rows(engine, text, values) == [("BHP", 2**100, None, True, 1.5)]
    assert rows(engine, "SELECT $s", {"s": "'; DROP TABLE trades; --"}) == [("'; DROP TABLE trades; --",)]


def test_parameters_that_are_missing_or_have_no_type_are_errors(engine: QueryEngine) -> None:
    with pytest.raises(QueryError, match=r"\$a, \$b, which params does not give"):
        engine.sql("SELECT $a, $b")
    with pytest.raises(InvalidParameter, match="time zone"):
        engine.sql("SELECT $a", {"a": datetime(2014, 3, 10)})  # noqa: DTZ001 - that is what is refused
    with pytest.raises(InvalidParameter, match="no SQL type"):
        engine.sql("SELECT $a", {"a": object()})
    with pytest.raises(InvalidParameter, match="params"):
        engine.sql("SELECT $a", "text")


def test_errors_carry_duckdbs_sentence(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event()])
    with pytest.raises(QueryError, match=r"(?s)prize.*DESCRIBE") as caught:
        engine.sql("SELECT prize FROM trades").to_arrow()
    assert caught.value.__cause__ is not None
    with pytest.raises(QueryError, match="syntax error"):
        engine.sql("SELEC 1")
    with pytest.raises(QueryError, match=r"[Oo]verflow"):
        engine.sql("SELECT 9223372036854775807 + sequence + 1::BIGINT FROM trades").to_arrow()


def test_what_sql_makes_of_times_and_shapes_reaches_frames_and_files(lake: Lake, engine: QueryEngine) -> None:
    begin = datetime(2014, 3, 10, 1, tzinfo=UTC)
    add(lake, "a", [event(ts_event=begin), event(ts_event=begin + timedelta(seconds=60))])
    result = engine.sql(
        "SELECT max(ts_event) - min(ts_event) AS apart, INTERVAL '-1 month -2 days -0.5 s' AS back, "
        "NULL::INTERVAL AS none, make_timestamp_ns(1587391200123456789) AS at, histogram(price) AS counts, "
        "{'n': count(*)} AS shape, [[1, 2], NULL] AS lists FROM trades"
    )
    apart, back = timedelta(seconds=60), timedelta(days=-32, milliseconds=-500)
    assert result.to_polars().row(0)[:3] == (apart, back, None)
    assert result.page(1).rows["back"].to_pylist() == [back]
    told = {form: b"".join(encode(result.batches(), form)) for form in FORMATS}
    [row] = json.loads(told["json"])
    assert (row["apart"], row["back"], row["none"]) == ("PT1M", "-P32DT0.5S", None)
    assert row["at"] == "2020-04-20T14:00:00.123456789"
    assert row["counts"] == [{"key": "35.10000000", "value": 2}]
    assert row["shape"] == {"n": 2}
    assert next(csv.DictReader(StringIO(told["csv"].decode())))["lists"] == "[[1,2],null]"
    assert pl.read_parquet(BytesIO(told["parquet"])).equals(pl.read_ipc_stream(BytesIO(told["arrow"])))


def test_times_are_utc_whatever_the_machine_says(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(ts_event=datetime(2014, 3, 9, 23, 30, tzinfo=UTC))])
    assert rows(engine, "SELECT ts_event::VARCHAR, ts_event::DATE, hour(ts_event) FROM trades") == [
        ("2014-03-09 23:30:00+00", date(2014, 3, 9), 23)
    ]


@pytest.fixture
def states(lake: Lake) -> tuple[int, int, datetime]:
    """Two states of trades: `eod` has one row, the head three; and a time between."""
    first = add(lake, "a", [event()])
    lake.tag("trades", "eod", first)
    moment = datetime.now(UTC)
    second = add(lake, "b", [event(ts_event=at(1)), event(ts_event=at(2))], minute=1)
    return first, second, moment


@pytest.mark.parametrize(
    "reference",
    [
        "trades FOR VERSION AS OF {first}",
        "trades FOR VERSION AS OF 'eod'",
        "trades FOR SYSTEM_VERSION AS OF '{first}'",
        "trades VERSION AS OF 'eod' AS t",
        "trades AT (VERSION => {first})",
        "trades AT (VERSION => 'eod') t",
        "trades t AT (TAG => 'eod')",
        "trades AS t AT (VERSION => $eod)",
        "market_data.trades FOR VERSION AS OF $eod",
        'market_data."trades" t FOR VERSION AS OF $eod',
        "trades FOR TIMESTAMP AS OF '{moment}'",
        "trades FOR TIMESTAMP AS OF TIMESTAMPTZ '{moment}'",
        "trades FOR SYSTEM_TIME AS OF TIMESTAMP '{moment}' AS t",
        "trades TIMESTAMP AS OF $moment",
        "trades AT (TIMESTAMP => '{moment}')",
        "trades_raw FOR VERSION AS OF 'eod'",
    ],
)
def test_a_table_can_be_read_at_a_past_state(
    engine: QueryEngine, states: tuple[int, int, datetime], reference: str
) -> None:
    first, second, moment = states
    clause = reference.format(first=first, moment=moment.isoformat())
    params = {"eod": "eod", "moment": moment}
    assert rows(engine, f"SELECT count(*) FROM {clause} WHERE symbol = 'BHP'", params) == [(1,)]
    both = f"SELECT count(*), (SELECT count(*) FROM trades) FROM {clause}"
    assert rows(engine, both, params) == [(1, 3)]
    assert set(engine.sql(both, params).snapshots.values()) == {first, second}
    assert rows(engine, both, params, as_of=first) == [(1, 1)]


def test_one_statement_compares_two_states(engine: QueryEngine, states: tuple[int, int, datetime]) -> None:
    text = (
        "SELECT count(a.sequence), count(b.sequence) FROM trades FOR VERSION AS OF 'eod' a "
        "FULL JOIN trades b USING (source, source_offset)"
    )
    assert rows(engine, text) == [(1, 3)]
    own = "SELECT trades.symbol FROM trades FOR VERSION AS OF 'eod' WHERE trades.price > 0"
    assert rows(engine, own) == [("BHP",)]


def test_past_states_that_are_not_there_are_errors(engine: QueryEngine, states: tuple[int, int, datetime]) -> None:
    with pytest.raises(UnknownReference, match="eod"):
        engine.sql("SELECT * FROM trades FOR VERSION AS OF 'nightly'")
    with pytest.raises(InvalidParameter, match="bare date"):
        engine.sql("SELECT * FROM trades FOR TIMESTAMP AS OF '2014-03-10'")
    with pytest.raises(InvalidParameter, match="VERSION"):
        engine.sql("SELECT * FROM trades FOR TIMESTAMP AS OF 'eod'")
    with pytest.raises(K2Error, match=r"\$x"):
        engine.sql("SELECT * FROM trades FOR VERSION AS OF $x")
    with pytest.raises(SqlRefused, match="past states"):
        engine.sql("WITH t AS (SELECT 1) SELECT * FROM t FOR VERSION AS OF 'eod'")
    with pytest.raises(UnknownReference):
        engine.sql("SELECT * FROM quotes FOR VERSION AS OF 'eod'")


def test_words_of_time_travel_elsewhere_are_left_alone(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event()])
    text = (
        "SELECT substring('abc' FROM 2 FOR 1), [x FOR x IN [1]], ts_event AT TIME ZONE 'UTC' AS of, "
        "'trades FOR VERSION AS OF 1' AS version FROM trades /* trades AT (VERSION => 1) */"
    )
    found = rows(engine, text)[0]
    assert (found[0], found[1], found[3]) == ("b", [1], "trades FOR VERSION AS OF 1")


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("FROM trades WHERE venue = 'XNYS'", 1),
        ("SELECT count(*) FROM (FROM trades WHERE venue = 'XNYS' AND size > 0)", 1),
        ("WITH one AS (FROM trades t WHERE t.venue = $v) SELECT symbol FROM one ORDER BY 1", 1),
        ("WITH one AS (FROM trades WHERE venue = $v) SELECT count(*) FROM one a, one b", 1),
        ("SELECT symbol FROM trades WHERE venue = 'XNYS' UNION ALL SELECT symbol FROM quotes WHERE venue = 'XASX'", 1),
        ("SELECT count(*) FROM quotes q, (FROM trades WHERE venue = 'XNYS') t", 1),
        ("SELECT (SELECT count(*) FROM trades WHERE q.venue = 'XASX') FROM quotes q", 2),
        ("SELECT (SELECT count(*) FROM trades t WHERE q.venue = t.venue) FROM quotes q", 2),
        ("WITH trades AS (SELECT 'X' AS venue FROM market_data.trades) FROM trades WHERE venue = 'X'", 2),
        ("SELECT count(*) FROM trades t JOIN quotes q ON t.symbol = q.symbol WHERE t.venue = 'XNYS'", 2),
        ("SELECT count(*) FROM (FROM trades WHERE venue = 'XNYS'), (SELECT count(*) FROM trades)", 2),
    ],
)
def test_conditions_leave_files_out_wherever_they_stand(lake: Lake, engine: QueryEngine, text: str, files: int) -> None:
    add(lake, "a", [event(), event()])
    add(lake, "b", [event(venue="XNYS", symbol="IBM")], minute=1)
    add(lake, "c", [event()], "quotes")
    found = engine.sql(text, {"v": "XNYS"})
    read = {reading.table: len(reading.files) for reading in found.readings}
    assert read["trades"] == files
    with duckdb.connect() as plain:
        for name in ("trades", "quotes"):
            plain.register(name, engine.sql(f"FROM {name}").to_arrow())
        plain.execute("SET TimeZone = 'UTC'; CREATE VIEW whole AS FROM trades")
        asked = plain.sql(text.replace("market_data.trades", "whole").replace("$v", "'XNYS'")).to_arrow_table()
    assert sorted(map(str, found.to_arrow().to_pylist())) == sorted(map(str, asked.to_pylist()))
