"""Bars through SQL, on the command line and over HTTP are those of Python, bit for bit."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from pyarrow import ipc
from typer.testing import CliRunner

from k2kernel.cli.query import app
from k2kernel.errors import InvalidParameter, K2Error, SqlRefused, UnknownSymbol
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.workbench import Workbench
from tests.query_lake import DAY, NEXT, add, at, event
from tests.replays import sample_bench
from tests.servers import pages, serving

KINDS = ("1m", "7m", "4h", "1d", "session", "tick:7", "volume:2500", "dollar:1e5")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return sample_bench(tmp_path_factory.mktemp("doors"), rows=1_500)


@pytest.mark.parametrize("interval", KINDS)
def test_sql_and_python_give_the_same_table(bench: Workbench, interval: str) -> None:
    for words in ({}, {"columns": "all"}, {"of": "mid", "columns": "all"}):
        if "of" in words and ":" in interval:
            continue
        named = "".join(f", {name} => '{value}'" for name, value in words.items())
        found = bench.sql(f"SELECT * FROM bars(NULL, '{interval}'{named})").to_arrow()
        assert found.equals(bench.bars(None, interval, **words).to_arrow())


@pytest.fixture
def engine(lake: Lake) -> QueryEngine:
    rows = [event(symbol=symbol, ts_event=at(60 * step)) for step in range(3) for symbol in ("BHP", "RIO")]
    lake.tag("trades", "eod", add(lake, "a", rows))
    add(lake, "b", [event(price=Decimal(99), ts_event=at(70)), event(session=NEXT, ts_event=at(0, NEXT))], minute=1)
    return QueryEngine(lake)


def test_arguments_by_place_name_and_parameter(engine: QueryEngine) -> None:
    def opens(text: str, **params: object) -> list[Any]:
        found: list[Any] = engine.sql(text, params or None).to_arrow().column(0).to_pylist()
        return found

    day = engine.bars("BHP", "1m", session=DAY).to_arrow()["ts_open"].to_pylist()
    one = "SELECT ts_open FROM bars"
    assert opens(f"{one}('BHP', '1m', session => '2014-03-10')") == day
    assert opens(f"{one}(symbol => 'BHP', interval => '1m', session => DATE '2014-03-10')") == day
    assert opens(f"{one} ($s, $i, session => $d)", s="BHP", i="1m", d=DAY) == day
    assert opens(f"{one}('BHP', session => '2014-03-10', end => '2014-03-10T10:01:00+11:00')") == day[:1]
    assert opens("SELECT DISTINCT symbol FROM bars(['BHP', $r], '1d') ORDER BY 1", r="RIO") == ["BHP", "RIO"]
    assert opens("SELECT count(*) FROM bars(NULL, '1d')") == [3]


def test_any_symbol_is_a_value(lake: Lake) -> None:
    add(lake, "a", [event(symbol=symbol, ts_event=at()) for symbol in ("O'X", 'A"B', "BHP")])
    engine = QueryEngine(lake)
    for written, symbol in (("'O''X'", "O'X"), ("'A\"B'", 'A"B')):
        wanted = engine.bars(symbol, "1d").to_arrow()
        assert wanted["symbol"].to_pylist() == [symbol]
        assert engine.sql(f"SELECT * FROM bars({written}, '1d')").to_arrow().equals(wanted)
        assert engine.sql("SELECT * FROM bars($s, '1d')", {"s": symbol}).to_arrow().equals(wanted)


def test_bars_join_with_bars_and_tables_and_stand_in_ctes(engine: QueryEngine) -> None:
    text = """
        WITH old AS (SELECT * FROM bars('BHP', '1m', as_of => 'eod')), bars(n) AS (SELECT 1)
        SELECT now.ts_open, now.close - old.close AS change, n
        FROM bars('BHP', '1m') now JOIN old USING (ts_open), bars WHERE now.close <> old.close -- bars('x')
    """
    found = engine.sql(text)
    assert found.to_arrow().to_pylist() == [{"ts_open": at(60), "change": Decimal("63.9"), "n": 1}]
    assert list(found.snapshots) == ["trades AS OF eod", "trades"]
    joined = "SELECT bars.symbol, count(*) AS n FROM trades JOIN bars('RIO', '1m') USING (symbol) GROUP BY ALL"
    assert engine.sql(joined).to_arrow().to_pylist() == [{"symbol": "RIO", "n": 9}]
    early = engine.sql("SELECT max(close) AS m FROM bars('BHP')", as_of="eod").to_arrow()["m"][0].as_py()
    assert early == Decimal("35.1")
    known = engine.sql("SELECT count(*) AS n FROM bars('BHP')", known_at=at(1), clock="event").to_arrow()
    assert known["n"][0].as_py() == 1


@pytest.mark.parametrize(
    ("call", "kind", "problem"),
    [
        ("bars()", SqlRefused, "no symbol"),
        ("bars('BHP', '1m', 'x')", SqlRefused, "after the second"),
        ("bars('BHP', colour => 1)", SqlRefused, "no argument 'colour'"),
        ("bars('BHP', symbol => 'RIO')", SqlRefused, "twice"),
        ("bars('BHP', 1 + 1)", SqlRefused, "no constant"),
        ("bars('BHP',, '1m')", SqlRefused, "empty"),
        ("bars('BHP', '1m'", SqlRefused, "not closed"),
        ("bars('BHP', $i)", SqlRefused, r"\$i"),
        ("bars('BHP', 'x')", InvalidParameter, "interval"),
        ("bars('NOPE')", UnknownSymbol, "NOPE"),
        ("bars('BHP', session => 'x')", InvalidParameter, "session"),
        ("bars('BHP') AT (VERSION => 'eod')", SqlRefused, "time-travel"),
        ("read_csv('x')", SqlRefused, "bars"),
        ("bars('BHP''); DROP TABLE trades; --')", UnknownSymbol, "DROP"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(engine: QueryEngine, call: str, kind: type[K2Error], problem: str) -> None:
    with pytest.raises(kind, match=problem):
        engine.sql(f"SELECT * FROM {call}")


def test_the_command_line_gives_the_same_bars(bench: Workbench) -> None:
    symbol = bench.trades(limit=1).to_arrow()["symbol"][0].as_py()

    def shown(*words: str) -> list[dict[str, Any]]:
        done = CliRunner().invoke(app, ["bars", symbol, *words, "-o", "json", "--home", str(bench.settings.home)])
        assert done.exit_code == 0, done.output
        found: list[dict[str, Any]] = json.loads(done.output)
        return found

    wanted = bench.bars(symbol, "tick:7", columns="all").to_arrow().to_pylist()
    found = shown("tick:7", "--columns", "all")
    assert [Decimal(bar["twap"]) for bar in found] == [bar["twap"] for bar in wanted]
    assert [list(bar) for bar in found] == [list(bar) for bar in wanted]
    filled = bench.bars(symbol, "1h", fill="previous", align="clock", of="mid").to_arrow()
    assert len(shown("1h", "--fill", "previous", "--align", "clock", "--of", "mid")) == filled.num_rows
    assert list(shown("1h", "--columns", "ts_open, twap")[0]) == ["ts_open", "twap"]
    kept = bench.materialise_bars("1m")
    assert kept.bars
    assert shown("1h", "--cached", "1m") == shown("1h")


def test_http_gives_the_same_bars(bench: Workbench) -> None:
    symbol = bench.trades(limit=1).to_arrow()["symbol"][0].as_py()
    asked: list[dict[str, Any]] = [
        {"columns": "all"},
        {"columns": "ts_open,twap", "hours": "rth"},
        {"fill": "previous", "align": "clock", "of": "mid"},
        {"interval": "tick:7"},
    ]
    with serving(bench.settings.home) as server, server.client() as client:
        for words in asked:
            given = {"fields" if name == "columns" else name: text for name, text in words.items()}
            answer = client.get("/v1/bars", params={"symbols": symbol, "interval": "1h", "format": "arrow", **given})
            columns = words["columns"].split(",") if "," in words.get("columns", "") else words.get("columns")
            python: dict[str, Any] = {"interval": "1h", **words, "columns": columns}
            wanted = bench.bars(symbol, **python).to_arrow()
            assert ipc.open_stream(answer.content).read_all().equals(wanted), answer.text
        cut = pages(client, "/v1/bars", symbols=symbol, interval="1h", fields="twap", limit=3)
        paged = [row["twap"] for page in cut for row in page["data"]]
    assert [None if twap is None else Decimal(twap) for twap in paged] == bench.bars(
        symbol, "1h", columns=["twap"]
    ).to_arrow()["twap"].to_pylist()


def test_the_command_line_shows_the_hours_of_a_venue(bench: Workbench) -> None:
    words = ["hours", "XNYS", "2014-07-03..2014-07-04", "--home", str(bench.settings.home)]
    done = CliRunner().invoke(app, [*words, "-o", "json"])
    found = [(row["session"], row["close"][:19], row["early"]) for row in json.loads(done.output)]
    assert found == [("2014-07-03", "2014-07-03T17:00:00", True)]
    assert "2014-07-03 17:00:00" in CliRunner().invoke(app, words).output
