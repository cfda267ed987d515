"""One contract for both engines: the statements of the doors, and more, give equal rows on DuckDB and on Spark."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from pyarrow import ipc

import k2kernel as k2
from k2kernel.cli import query_main
from k2kernel.config import Settings
from k2kernel.errors import InvalidParameter, QueryCancelled, QueryError, SqlRefused
from k2kernel.query.scope import CancelScope
from tests.doors import HOSTILE, STATEMENTS, Asked, lake_of_doors
from tests.query_lake import DAY, add, at, event
from tests.sparks import spark_server

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.session import SparkSession

pytestmark = pytest.mark.xdist_group("spark")

MORE = (
    Asked("SELECT * FROM bars('BHP', '1m')"),
    Asked("SELECT * FROM bars('RIO', '1d')"),
    Asked("SELECT * FROM bars(NULL, '1h')", as_of="eod"),
    Asked("SELECT symbol, sum(volume) AS v FROM bars(NULL, '5m', as_of => 'eod') GROUP BY ALL ORDER BY ALL"),
    Asked("SELECT b.close, t.n FROM bars('BHP', '1d') b, (SELECT count(*) AS n FROM trades) t"),
    Asked("SELECT * FROM bars($s, '1m', session => $d)", {"s": "BHP", "d": DAY.isoformat()}),
    Asked("WITH trades AS (SELECT price FROM trades FOR VERSION AS OF 'eod') SELECT count(*) AS n FROM trades"),
    Asked("SELECT count(*) AS n FROM trades_raw FOR VERSION AS OF 'eod'"),
    Asked("SELECT symbol, size / 3 AS third, 7 // 2 AS whole, 7 % 4 AS rest FROM trades ORDER BY symbol, size LIMIT 4"),
    Asked(
        "SELECT sum(price::DECIMAL(38, 8) * size) AS notional FROM trades WHERE symbol IN ($a, $b)",
        {"a": "BHP", "b": "RIO"},
    ),
    Asked("SELECT arg_max(price, ts_event) AS last, arg_min(price, source_offset) AS first FROM trades_raw"),
    Asked("SELECT symbol, avg(size) FILTER (WHERE price > 0) AS mean FROM trades GROUP BY symbol ORDER BY symbol"),
    Asked("SELECT price FROM trades WHERE price IS NOT NULL ORDER BY price DESC LIMIT 3"),
    Asked("SELECT price FROM trades ORDER BY price LIMIT 40"),
    Asked("SELECT date_trunc('minute', ts_event) AS minute, count(*) AS n FROM trades GROUP BY ALL ORDER BY ALL"),
    Asked("SELECT symbol FROM trades WHERE symbol LIKE $like ORDER BY ALL", {"like": "B%"}),
    Asked("SELECT q.symbol, count(*) AS n FROM quotes q JOIN trades t USING (symbol) GROUP BY q.symbol ORDER BY ALL"),
    Asked("SELECT count(*) AS n FROM trades WHERE ts_event < $t", {"t": at(2)}),
)
QUICK = (*MORE[:4], MORE[6], *(each for each in STATEMENTS if "sum(size)" in each.sql or each.as_of))
"""What every run asks; the rest takes a minute, and is asked by the long one."""

ASOF = next(asked for asked in STATEMENTS if "ASOF" in asked.sql)
EXACT = Asked(
    "SELECT symbol, vwap, sum(volume) OVER () AS v FROM bars(NULL, '1d') WHERE symbol <> $s ORDER BY ALL",
    {"s": "RIO"},
    as_of="eod",
)
"""Of every door: exact numbers, a bound value, a state of the past and bars."""

EVERY = [asked for asked in (*STATEMENTS, *MORE) if asked is not ASOF]


def _marks(asked: Asked) -> list[pytest.MarkDecorator]:
    return [] if asked in QUICK else [pytest.mark.long]


@pytest.fixture(scope="module")
def wb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[k2.Workbench]:
    folder: Path = tmp_path_factory.mktemp("spark")
    lake_of_doors(Settings(home=folder / ".k2", _env_file=None))
    with spark_server(folder, folder / ".k2") as url:
        yield k2.connect(settings=Settings(home=folder / ".k2", spark_url=url, _env_file=None))


@pytest.fixture(scope="module")
def session(wb: k2.Workbench) -> SparkSession:
    """A session of another program with the same Spark."""
    from pyspark.sql.connect.session import SparkSession

    url = wb.settings.spark_url
    assert url is not None
    return SparkSession(url.get_secret_value())


@pytest.mark.parametrize("asked", [pytest.param(each, id=each.sql[:60], marks=_marks(each)) for each in EVERY])
def test_equal_rows_on_both_engines(asked: Asked, wb: k2.Workbench) -> None:
    here, there = (wb.sql(asked.sql, asked.params, asked.as_of, engine=name) for name in ("duckdb", "spark"))
    assert there.to_arrow().equals(here.to_arrow())
    assert there.snapshots == here.snapshots
    assert there.columns == here.columns


def test_there_are_enough_statements_that_read_tables() -> None:
    assert len([asked for asked in EVERY if "FROM trades" in asked.sql or "FROM bars" in asked.sql]) >= 40


def test_what_cannot_be_pushed_says_so(wb: k2.Workbench) -> None:
    with pytest.raises(SqlRefused, match=r'Spark has no ASOF JOIN\. Run it with engine="duckdb"'):
        wb.sql(ASOF.sql, engine="spark")


def test_values_are_bound(wb: k2.Workbench) -> None:
    found = wb.sql("SELECT count(*) AS n FROM trades WHERE symbol <> $s", {"s": HOSTILE}, engine="spark").to_arrow()
    assert found["n"].to_pylist() == [34]


def test_an_answer_stays_at_its_snapshot(wb: k2.Workbench) -> None:
    asked = wb.sql("SELECT count(*) AS n FROM quotes", engine="spark")
    assert asked.to_polars()["n"].item() == 6
    assert asked.snapshots == {"quotes": wb.lake.head("quotes")}


def test_faults_say_what_to_do(wb: k2.Workbench) -> None:
    with pytest.raises(QueryError, match="nothing"):
        wb.sql("SELECT nothing FROM trades", engine="spark")
    with pytest.raises(InvalidParameter, match="Use one of: duckdb, spark"):
        wb.sql("SELECT 1", engine="flink")
    alone = k2.connect(settings=Settings(home=wb.settings.home, engine="spark", _env_file=None))
    with pytest.raises(InvalidParameter, match="Set K2_SPARK_URL"):
        alone.sql("SELECT count(*) AS n FROM trades").to_arrow()


def test_the_engine_of_the_settings_is_used(wb: k2.Workbench) -> None:
    set_up = k2.connect(settings=wb.settings.model_copy(update={"engine": "spark"}))
    with pytest.raises(SqlRefused, match="Spark has no"):
        set_up.sql(ASOF.sql)


def by_cli(asked: Asked, *words: str) -> pa.Table:
    """The answer of `k2-query sql` in this process; the exit, and what it said, where it fails."""
    words = (*words, *(f"--param={name}={text}" for name, text in asked.params.items()), f"--as-of={asked.as_of}")
    argv = ["k2-query", "sql", *words, "-o", "arrow", "--", asked.sql]
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            query_main()
    if ended.value.code:
        raise SystemExit(err.getvalue())
    return ipc.open_stream(out.buffer.getvalue()).read_all()


def by_magic(asked: Asked, *words: str) -> pa.Table:
    """The answer of `%%k2sql` in a shell in this process."""
    shell = InteractiveShell()
    shell.user_ns |= asked.params | {"wb": k2.connect()}
    shell.run_line_magic("load_ext", "k2kernel")
    shell.run_cell_magic("k2sql", f"--out answer --to arrow --as-of {asked.as_of} {' '.join(words)}", asked.sql)
    return shell.user_ns["answer"]


@pytest.mark.parametrize("door", [by_cli, by_magic])
@pytest.mark.parametrize("how", ["option", "setting"])
def test_every_door_leads_to_spark(
    door: Callable[..., pa.Table], how: str, wb: k2.Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = wb.settings.spark_url
    assert url is not None
    monkeypatch.setenv("K2_HOME", str(wb.settings.home))
    monkeypatch.setenv("K2_SPARK_URL", url.get_secret_value())
    words = ["--engine", "spark"] if how == "option" else []
    if how == "setting":
        monkeypatch.setenv("K2_ENGINE", "spark")
    assert door(EXACT, *words).equals(wb.sql(EXACT.sql, EXACT.params, EXACT.as_of, engine="duckdb").to_arrow())
    with pytest.raises((SqlRefused, SystemExit), match="Spark has no ASOF JOIN"):
        door(replace(ASOF, as_of="eod"), *words)


def test_a_scope_ends_a_statement(wb: k2.Workbench) -> None:
    with CancelScope() as scope:
        asked = wb.sql("SELECT count(*) AS n FROM trades", engine="spark")
        scope.cancel()
        with pytest.raises(QueryCancelled):
            asked.to_arrow()


def rows(wb: k2.Workbench, text: str, **words: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in wb.sql(text, **words).to_arrow().to_pylist()]


def test_a_table_that_spark_changed_reads_right(wb: k2.Workbench, session: SparkSession) -> None:
    """Position deletes, a renamed and an added column, another partition spec, and tags both ways."""
    name = "k2.market_data.instruments"

    def run(text: str) -> pa.Table:
        return session.sql(text).toArrow()

    def insert(row: dict[str, str]) -> None:
        """A row with every column that the table has now."""
        columns = session.table(name).schema.fields
        required = {"timestamp": "current_timestamp()", "bigint": "0"}
        given = {name: f"'{text}'" for name, text in row.items()}
        rest = {
            each.name: "NULL" if each.nullable else required.get(each.dataType.simpleString(), "'x'")
            for each in columns
        }
        values = ({**rest, **given}[each.name] for each in columns)
        run(f"INSERT INTO {name} SELECT {', '.join(values)}")

    run(
        f"ALTER TABLE {name} SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read', "
        "'write.update.mode' = 'merge-on-read', 'commit.retry.num-retries' = '4')"
    )
    for row in ({"symbol": "BHP", "name": "old"}, {"symbol": "RIO", "name": "two"}, {"symbol": "CBA", "name": "three"}):
        insert(row | {"venue": "XASX"})
    run(f"ALTER TABLE {name} CREATE TAG before")
    assert [tag.name for tag in wb.tags("instruments")] == ["before"]
    run(f"DELETE FROM {name} WHERE symbol = 'CBA'")
    run(f"UPDATE {name} SET name = 'one' WHERE symbol = 'BHP'")
    run(f"ALTER TABLE {name} RENAME COLUMN isin TO isin_code")
    run(f"ALTER TABLE {name} ADD COLUMN sector STRING")
    run(f"ALTER TABLE {name} ADD PARTITION FIELD venue")
    insert({"symbol": "7203", "venue": "XTKS", "name": "five", "isin_code": "JP", "sector": "cars"})
    text = "SELECT symbol, name, isin_code, sector FROM instruments ORDER BY symbol"
    expected = [
        {"symbol": "7203", "name": "five", "isin_code": "JP", "sector": "cars"},
        {"symbol": "BHP", "name": "one", "isin_code": None, "sector": None},
        {"symbol": "RIO", "name": "two", "isin_code": None, "sector": None},
    ]
    assert rows(wb, text) == rows(wb, text, engine="spark") == expected
    assert any(file.deletes for file in wb.lake.files("instruments", wb.lake.head("instruments")).files)
    then = [row["name"] for row in rows(wb, text, as_of="before")]
    assert then == [row["name"] for row in rows(wb, text, as_of="before", engine="spark")] == ["old", "three", "two"]
    wb.tag("instruments", "after")
    assert run(f"SELECT count(*) AS n FROM {name} VERSION AS OF 'after'")["n"].to_pylist() == [3]


@pytest.mark.long
def test_writers_of_both_kinds_share_a_table_whose_partitions_changed(wb: k2.Workbench, session: SparkSession) -> None:
    """Appends, rewrites into buckets and deletes in turn; every state by id and by time, asked from both sides."""
    name, count = "k2.market_data.quotes", "SELECT count(*) AS n FROM {} {}"
    states: dict[int, int] = {}

    def state(rows: int) -> None:
        states[wb.lake.head("quotes") or 0] = rows
        time.sleep(0.01)  # Spark's clock has milliseconds

    def run(text: str) -> pa.Table:
        return session.sql(text).toArrow()

    state(6)
    run(f"ALTER TABLE {name} ADD PARTITION FIELD bucket(4, symbol)")
    add(wb.lake, "e" * 64, [event(symbol=symbol) for symbol in ("CBA", "WOW")], "quotes", minute=30)
    state(8)
    run("CALL k2.system.rewrite_data_files(table => 'market_data.quotes', options => map('rewrite-all', 'true'))")
    state(8)
    run(f"DELETE FROM {name} WHERE symbol = 'CBA'")
    state(7)
    add(wb.lake, "f" * 64, [event(symbol="NAB")], "quotes", minute=31)
    state(8)
    assert len(states) == 5
    assert [field.name for field in wb.lake.table("quotes").spec().fields] == ["session", "symbol_bucket_4"]
    for snapshot in wb.snapshots("quotes"):
        if (rows := states.get(snapshot.id)) is not None:
            when = snapshot.committed_at.isoformat()
            for as_of in (snapshot.id, snapshot.committed_at):
                assert wb.sql(count.format("quotes", ""), as_of=as_of).to_arrow()["n"].to_pylist() == [rows]
            for past in (f"VERSION AS OF {snapshot.id}", f"TIMESTAMP AS OF '{when}'"):
                assert run(count.format(name, past))["n"].to_pylist() == [rows]
