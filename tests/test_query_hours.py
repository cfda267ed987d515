"""`hours` on every read verb, against a plain filter in Python that knows local times only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import k2kernel as k2
from k2kernel.cli import query_main
from k2kernel.errors import InvalidParameter
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.sample import generate
from tests import truths
from tests.query_lake import DAY, add, event, utc
from tests.test_cli import call
from tests.truths import Quote, Trade

WORDS = ("all", "rth", "rth+auctions")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Local = Sequence[tuple[str, str]]

ASX: dict[str, Local] = {
    "rth": [("10:00", "16:00")],
    "rth+auctions": [("09:59:45", "16:00"), ("16:10", "16:12")],
}
NYSE: dict[str, Local] = {"rth": [("09:30", "16:00")], "rth+auctions": [("09:30", "16:00:08")]}
SHANGHAI: dict[str, Local] = {
    "rth": [("09:30", "11:30"), ("13:00", "15:00")],
    "rth+auctions": [("09:25", "11:30"), ("13:00", "15:05")],
}
ALWAYS: dict[str, Local] = {word: [("00:00", "23:59:59.999999")] for word in WORDS}
HOURS: Mapping[str, tuple[str, dict[str, Local]]] = {
    "XASX": ("Australia/Sydney", ASX),
    "XNYS": ("America/New_York", NYSE),
    "XSHG": ("Asia/Shanghai", SHANGHAI),
    "OANDA": ("America/New_York", ALWAYS),
    "FXCM": ("America/New_York", ALWAYS),
    "BINANCE": ("UTC", ALWAYS),
}
CODES = {"XASX": {"OA", "CA"}, "XNYS": {"O", "5", "6"}}


def within(venue: str, moment: datetime, word: str, conditions: Sequence[str] = ()) -> bool:
    """The rule, in Python: the dates of the data are ordinary days."""
    zone, hours = HOURS[venue]
    if word == "all" or (word == "rth+auctions" and CODES.get(venue, set()) & set(conditions)):
        return True
    local = moment.astimezone(ZoneInfo(zone)).time()
    return any(time.fromisoformat(start) <= local < time.fromisoformat(end) for start, end in hours[word])


class Sample:
    """Two days on three venues, in a lake and as text."""

    def __init__(self, folder: Path) -> None:
        paths = generate(folder / "files", rows=12_000, sessions=2, symbols=6, seed=3)
        self.of = {kind: [path for path in paths if path.name.startswith(kind)] for kind in ("trades", "quotes")}
        self.fills = truths.fills(truths.read_trades(self.of["trades"]))
        self.quotes = truths.read_quotes(self.of["quotes"])
        self.bench = k2.connect(folder / "lake")
        for kind, found in self.of.items():
            self.bench.ingest(found, f"k2-{kind}")

    def kept(self, word: str) -> list[Trade]:
        return [t for t in self.fills if within(t.venue, moment_of(t), word, t.conditions)]

    def kept_quotes(self, word: str) -> list[Quote]:
        return [q for q in self.quotes if within(q.venue, moment_of(q), word)]


def moment_of(row: Trade | Quote) -> datetime:
    return EPOCH + timedelta(microseconds=row.ts)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("sample"))


@pytest.mark.parametrize("word", WORDS)
def test_trades_and_quotes_of_the_sample(sample: Sample, word: str) -> None:
    found = sample.bench.trades(hours=word, columns=["venue", "symbol", "ts_event", "price", "size"])
    wanted = sorted((t.venue, t.symbol, moment_of(t), t.price, t.size) for t in sample.kept(word))
    assert sorted(tuple(row.values()) for row in found.to_arrow().to_pylist()) == wanted
    assert (found.hours, found.notes) == (word, ())
    quotes = sample.bench.quotes(hours=word, columns=["venue", "symbol", "ts_event"])
    wanted_quotes = sorted((q.venue, q.symbol, moment_of(q)) for q in sample.kept_quotes(word))
    assert sorted(tuple(row.values()) for row in quotes.to_arrow().to_pylist()) == wanted_quotes


def test_the_hours_of_the_sample_differ(sample: Sample) -> None:
    """So that the comparisons mean something."""
    rth, auctions, every = (len(sample.kept(word)) for word in ("rth", "rth+auctions", "all"))
    assert rth < auctions < every


@pytest.mark.parametrize("word", WORDS)
def test_bars_and_summaries_of_the_sample(sample: Sample, word: str) -> None:
    wanted = truths.daily(sample.kept(word))
    result = sample.bench.bars(None, "session", eligible="all", hours=word)
    rows = {(row["venue"], row["symbol"], row["session"]): row for row in result.to_arrow().to_pylist()}
    names = ("n_trades", "open", "high", "low", "close", "volume", "notional", "vwap")
    assert {key: tuple(row[name] for name in names) for key, row in rows.items()} == wanted
    (venue, symbol, session), bar = next(iter(wanted.items()))
    summary = sample.bench.summary(symbol, session, venue=venue, eligible="all", hours=word)
    assert (summary.trade_count, summary.open, summary.high, summary.low, summary.close) == bar[:5]
    assert (summary.hours, result.hours) == (word, word)


@pytest.mark.parametrize("word", WORDS)
def test_a_replay_has_the_same_rows(sample: Sample, word: str) -> None:
    replay = sample.bench.replay(hours=word)
    found = [(event.kind, event.venue, event.symbol, event.ts_event) for event in replay]
    kept: list[tuple[str, Trade | Quote]] = [("trades", t) for t in sample.kept(word)]
    kept += [("quotes", q) for q in sample.kept_quotes(word)]
    assert sorted(found) == sorted((kind, row.venue, row.symbol, moment_of(row)) for kind, row in kept)
    assert replay.notes == ()


def test_a_position_is_of_its_hours(sample: Sample) -> None:
    first = sample.bench.replay("CBA", ("trades",), hours="rth", limit=3)
    assert len(list(first)) == 3
    rest = list(sample.bench.replay("CBA", ("trades",), hours="rth", position=first.position))
    assert len(rest) == sum(t.symbol == "CBA" for t in sample.kept("rth")) - 3
    with pytest.raises(k2.K2Error, match="another query"):
        sample.bench.replay("CBA", ("trades",), position=first.position)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`cli(home, *words)` runs `k2-query` on a lake in this process: standard output and standard error."""

    def run(home: Path, *words: str) -> tuple[str, str]:
        code, out, err = call(capsys, monkeypatch, query_main, *words, "--home", str(home))
        assert code == 0
        return out, err

    return run


def test_every_door_takes_the_word(sample: Sample, cli: Any) -> None:
    def door(*words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(cli(bench.settings.home, *words, "--hours", "rth", "-o", "json")[0])
        return found

    bench, wanted = sample.bench, sum(t.symbol == "CBA" for t in sample.kept("rth"))
    assert len(bench.at().trades("CBA", hours="rth").to_arrow()) == wanted
    assert len(door("trades", "-s", "CBA")) == wanted
    assert len(door("replay", "-s", "CBA", "--kind", "trades")) == wanted
    bars = door("bars", "CBA", "session", "--eligible", "all")
    assert sum(bar["n_trades"] for bar in bars) == wanted
    (record,) = door("summary", "CBA", str(sample.fills[0].session))
    assert (record["hours"], record["notes"], record["unknown_conditions"]) == ("rth", [], [])


DATA = {
    "asx": ("asx-2014-03/raw/trades/7078.csv", "asx-trades", "BHP", "XASX"),
    "shanghai": ("cn-sse-2023-07-11/raw/SHtrans.zip", "sse-trades", None, "XSHG"),
    "crypto": ("binance-ws-2024-08-08/raw/spot_btcusdt_20240808.gz", "binance-spot-ws", None, "BINANCE"),
    "asx quotes": ("asx-2014-03/raw/quotes/7078.csv", "asx-quotes", "BHP", "XASX"),
    "fx quotes": ("fx-eurusd-2014-05/raw/oanda/20140511_quote.zip", "oanda-quotes", "EURUSD", "OANDA"),
}


@pytest.mark.parametrize("name", DATA)
def test_real_ticks(shared_data: Path, tmp_path: Path, name: str) -> None:
    path, profile, symbol, venue = DATA[name]
    bench = k2.connect(tmp_path / "lake")
    bench.ingest(shared_data / path, profile, symbol=symbol)
    read: Callable[..., k2.Result] = bench.quotes if "quotes" in name else bench.trades
    every = read(columns=["ts_event", "sequence"]).to_arrow().to_pylist()
    counts = {}
    for word in WORDS:
        wanted = [row for row in every if within(venue, row["ts_event"], word)]
        assert read(columns=["ts_event", "sequence"], hours=word).to_arrow().to_pylist() == wanted
        counts[word] = len(wanted)
    assert counts == {
        "asx": {"all": 91_631, "rth": 91_518, "rth+auctions": 91_559},
        "shanghai": {"all": 109_616, "rth": 108_026, "rth+auctions": 109_616},
    }.get(name, counts)
    assert counts["all"] == counts["rth"] or venue in {"XASX", "XSHG"}


def test_an_off_market_high_is_there_only_with_everything(shared_data: Path, tmp_path: Path) -> None:
    bench = k2.connect(tmp_path / "lake")
    bench.ingest(shared_data / "asx-2014-03/raw/trades/7078.csv", "asx-trades", symbol="BHP")
    high = {
        (eligible, word): bench.summary("BHP", "2014-03-11", eligible=eligible, hours=word).high
        for eligible in ("venue", "all")
        for word in ("all", "rth")
    }
    assert high == {
        ("venue", "all"): Decimal("36.45"),
        ("venue", "rth"): Decimal("36.45"),
        ("all", "all"): Decimal("42.00"),
        ("all", "rth"): Decimal("36.45"),  # the prints at 40 to 42 came at 07:05
    }
    assert bench.summary("BHP", "2014-03-11").unknown_conditions == ()


def new_york(day: date, clock: str) -> datetime:
    return datetime.combine(day, time.fromisoformat(clock), ZoneInfo("America/New_York"))


def test_many_sessions_with_holidays_early_closes_and_both_changes_of_the_clocks(
    lake: Lake, engine: QueryEngine
) -> None:
    """Every day of eight months, whatever its kind: only events from the open to the close are kept."""
    days = [date(2013, 10, 28) + timedelta(days=n) for n in range(253)]
    clocks = ("09:29:59.999999", "09:30", "12:59:59.999999", "13:00", "15:59:59.999999", "16:00")
    rows = [event(venue="XNYS", session=d, ts_event=new_york(d, at).astimezone(UTC)) for d in days for at in clocks]
    add(lake, "a", rows)
    holidays = "11-28 12-25 01-01 01-20 02-17 04-18 05-26 07-04".split()
    early = {date(2013, 11, 29), date(2013, 12, 24), date(2014, 7, 3)}
    wanted = []
    for day in days:
        if day.weekday() < 5 and f"{day:%m-%d}" not in holidays:
            wanted += [new_york(day, at) for at in clocks[1 : 3 if day in early else 5]]
    found = engine.trades(hours="rth", columns=["ts_event"]).to_arrow()["ts_event"].to_pylist()
    assert found == [moment.astimezone(UTC) for moment in wanted]
    assert len(engine.trades("BHP", session="2014-07-03", hours="rth").to_arrow()) == 2
    assert len(engine.trades("BHP", session="2014-07-04", hours="rth").to_arrow()) == 0


def test_one_venues_hours_are_not_anothers(lake: Lake, engine: QueryEngine) -> None:
    moments = ("2014-03-10T01:00Z", "2014-03-10T14:00Z", "2014-03-10T20:00Z")
    rows = [event(venue=code, ts_event=utc(moment)) for code in ("XASX", "XNYS", "BINANCE") for moment in moments]
    add(lake, "a", rows)
    found = engine.trades(hours="rth", columns=["venue", "ts_event"]).to_arrow().to_pylist()
    kept = [(row["venue"], f"{row['ts_event']:%H}") for row in found]
    assert sorted(kept) == [("BINANCE", "01"), ("BINANCE", "14"), ("BINANCE", "20"), ("XASX", "01"), ("XNYS", "14")]


def test_a_nanosecond_before_the_close_is_within(lake: Lake, engine: QueryEngine) -> None:
    close = utc("2014-03-10T16:00+11:00")
    ns = int(close.timestamp()) * 10**9
    rows = [
        event(ts_event=close - timedelta(microseconds=1), ts_event_ns=ns - 1),
        event(ts_event=close, ts_event_ns=ns),
    ]
    add(lake, "a", rows)
    assert engine.trades(hours="rth").to_arrow()["ts_event_ns"].to_pylist() == [ns - 1]


def test_prints_that_an_auction_marks_are_within_at_any_time(lake: Lake, engine: QueryEngine) -> None:
    rows = [
        event(venue="XNYS", ts_event=utc(f"2014-03-10T{clock}-04:00"), conditions=codes)
        for clock, codes in (("09:29", ["O"]), ("09:29", ["T"]), ("10:00", None), ("16:04", ["6"]), ("16:04", []))
    ]
    add(lake, "a", rows)
    add(lake, "q", [event(venue="XNYS", ts_event=utc("2014-03-10T16:04-04:00"), conditions=["O"])], "quotes")
    sequences = {word: engine.trades(hours=word).to_arrow()["sequence"].to_pylist() for word in WORDS}
    assert sequences == {"all": [0, 1, 2, 3, 4], "rth": [2], "rth+auctions": [0, 2, 3]}
    assert engine.trades(hours="rth+auctions", columns=["sequence"]).to_arrow()["sequence"].to_pylist() == [0, 2, 3]
    assert len(engine.quotes(hours="rth+auctions").to_arrow()) == 0


def test_files_outside_the_hours_are_not_read(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "early", [event(ts_event=utc("2014-03-10T07:00+11:00"))])
    add(lake, "open", [event(ts_event=utc("2014-03-10T11:00+11:00"))], minute=1)

    paths = [v for v in engine.trades("BHP", hours="rth")._query.values.values() if isinstance(v, list)]
    assert [len(found) for found in paths] == [1]
    every = [v for v in engine.trades("BHP")._query.values.values() if isinstance(v, list)]
    assert [len(found) for found in every] == [2]


def test_a_summary_without_trades_in_its_hours_counts_the_quotes_in_them(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "t", [event(ts_event=utc("2014-03-10T17:00+11:00"))])
    moments = ("2014-03-10T09:00+11:00", "2014-03-10T12:00+11:00", "2014-03-10T13:00+11:00")
    add(lake, "q", [event(ts_event=utc(moment)) for moment in moments], "quotes")
    summary = engine.summary("BHP", DAY, hours="rth")
    assert (summary.trade_count, summary.quote_count, summary.hours) == (0, 2, "rth")
    assert engine.summary("BHP", DAY).trade_count == 1


def test_what_is_unsure_is_one_sentence_on_the_answer(lake: Lake, engine: QueryEngine, cli: Any) -> None:
    moment = utc("2027-03-10T12:00+08:00")
    add(
        lake,
        "a",
        [event(venue="XSHG", session=date(2027, 3, 10), ts_event=moment + n * timedelta(hours=2)) for n in (0, 1)],
    )
    result = engine.trades("BHP", hours="rth")
    (note,) = result.notes
    assert note == (
        "XSHG: the calendar XSHG covers 1990-12-03 to 2026-12-31, so 2027-03-10 has the usual hours, "
        "with holidays and early closes unknown"
    )
    assert repr(result).endswith(note)
    assert "hours rth" in repr(result)
    assert f">{note}</p>" in result._repr_html_()
    assert len(result.to_arrow()) == 1
    assert engine.summary("BHP", "2027-03-10", hours="rth").notes == (note,)
    assert engine.trades("BHP").notes == ()
    out, err = cli(lake.settings.home, "trades", "--hours", "rth", "-o", "csv")
    assert err == f"{note}\n"
    assert note not in out


def test_a_users_venue_and_policy_say_what_an_auction_is(lake: Lake, engine: QueryEngine) -> None:
    home = lake.settings.home
    (home / "venues.toml").write_text(
        'HOUSE = { zone = "UTC", hours = ["09:00", "17:00"], auctions = ["close 0:05..0:06"] }\n'
    )
    (home / "policies").mkdir()
    (home / "policies" / "house.toml").write_text('venues = ["HOUSE"]\nauctions = ["AUC"]\n')
    clocks: list[tuple[str, list[str]]] = [("08:00", []), ("09:00", []), ("17:05", []), ("18:00", ["x", "AUC"])]
    add(lake, "a", [event(venue="HOUSE", ts_event=utc(f"2014-03-10T{at}Z"), conditions=codes) for at, codes in clocks])
    assert engine.trades(hours="rth").to_arrow()["sequence"].to_pylist() == [1]
    assert engine.trades(hours="rth+auctions").to_arrow()["sequence"].to_pylist() == [1, 2, 3]
    assert engine.trades(hours="rth").notes == (
        "HOUSE: no calendar is declared, so every day is taken for a session, from 09:00 to 17:00",
    )


@pytest.mark.parametrize("word", ["RTH", "", None, 1, "rth + auctions"])
def test_an_unknown_word_is_one_clear_error(sample: Sample, word: Any) -> None:
    bench = sample.bench
    for read in (bench.trades, bench.quotes, bench.bars, bench.replay):
        with pytest.raises(InvalidParameter, match=r"hours.*is not known.*all, rth, rth\+auctions"):
            read("CBA", hours=word)
    with pytest.raises(InvalidParameter, match="hours"):
        bench.summary("CBA", "2024-03-05", hours=word)


def test_the_table_of_hours_is_on_the_workbench(sample: Sample) -> None:
    found = sample.bench.hours("XASX", "2014-03-10..2014-03-14")
    assert found["open"].to_list() == [utc(f"2014-03-{day}T10:00+11:00") for day in range(10, 15)]
