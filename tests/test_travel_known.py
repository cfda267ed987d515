"""`known_at`: what the tables had said by a time, by the clock of the ingest, of the capture and of the market."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import k2kernel as k2
from k2kernel.cli import query_main
from k2kernel.errors import InvalidParameter, InvalidPosition, UnknownReference
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from k2kernel.replay import ReplayEngine
from tests.lake_frames import came_from, load, trades
from tests.query_lake import DAY, NEXT, OPEN_NS, add, at, event
from tests.test_cli import call
from tests.travel import compact, expire_past

BEFORE = datetime(2014, 3, 10, tzinfo=UTC)
"""Before any commit of these tests."""


def instant() -> datetime:
    """Now, apart from the commits before and after."""
    time.sleep(0.003)
    moment = datetime.now(UTC)
    time.sleep(0.003)
    return moment


def content(result: k2.Result) -> Counter[tuple[Any, ...]]:
    """The rows of a result as a bag."""
    rows = result.to_arrow().select(["source", "source_offset", "symbol", "session", "status", "ts_ingest"]).to_pylist()
    return Counter(tuple(row.values()) for row in rows)


def random_rows(rng: random.Random, number: int) -> list[dict[str, Any]]:
    """Fills with ids, and now and then a cancel of an earlier one."""
    rows = []
    for place in range(rng.randint(1, 4)):
        day = rng.choice((DAY, NEXT))
        row = event(session=day, ts_event=at(number * 10 + place, day), trade_id=f"{number}-{place}")
        if number and rng.random() < 0.4:
            row |= {"status": "cancel", "corrects": f"{rng.randrange(number)}-0", "trade_id": None}
        rows.append(row)
    return rows


def replace_load(lake: Lake, digest: str, minute: int) -> None:
    """Load the source again with other rows, in place of its first load."""
    frame = trades(3, digest, ts_ingest=at(minute * 60))
    provenance = came_from(digest, 3, minute, profile="other")
    lake.append("trades", [lake.write("trades", frame, DAY).path], provenance, replace=[digest])


@pytest.mark.parametrize("seed", range(4))
def test_known_at_is_as_of_while_the_states_are_kept_and_holds_afterwards(
    lake: Lake, engine: QueryEngine, seed: int
) -> None:
    rng = random.Random(seed)
    moments = [instant()]
    for number in range(6):
        if number > 2 and seed % 2 and rng.random() < 0.5:
            replace_load(lake, f"source-{rng.randrange(number)}", number)
        elif number > 2 and rng.random() < 0.3:
            compact(lake)
        add(lake, f"source-{number}", random_rows(rng, number), minute=number if rng.random() < 0.7 else 0)
        moments += [instant()]
    head = lake.head("trades")
    kept = {row[:2] + row[5:] for row in content(engine.trades(raw=True))}
    said: dict[tuple[datetime, bool], Counter[tuple[Any, ...]]] = {}
    for moment, raw in ((moment, raw) for moment in moments[1:] for raw in (False, True)):
        then = content(engine.trades(as_of=moment, raw=raw))
        assert content(engine.trades(known_at=moment, raw=raw)) == then
        assert content(engine.trades("BHP", known_at=moment, raw=raw, session=f"{DAY}..{NEXT}")) == then
        if raw or not seed % 2:  # what a replaced row once undid stands again, where that row is gone
            remaining = Counter({row: n for row, n in then.items() if row[:2] + row[5:] in kept})
            said[moment, raw] = remaining
            assert content(engine.trades(as_of=head, known_at=moment, raw=raw)) == remaining
    assert content(engine.trades(known_at=moments[0])) == Counter()
    compact(lake)
    expire_past(lake)
    for (moment, raw), rows in said.items():
        assert content(engine.trades(known_at=moment, raw=raw)) == rows
        table = "trades_raw" if raw else "trades"
        assert content(engine.sql(f"FROM {table}", known_at=moment)) == rows
    assert content(engine.trades(known_at=moments[0])) == Counter()
    with pytest.raises(UnknownReference, match="expired"):
        engine.trades(as_of=moments[1])


def test_verbs_that_read_few_columns_know_what_was_undone_by_then(lake: Lake, engine: QueryEngine) -> None:
    """The marks are read for that, although nothing shows them."""
    add(lake, "a", [event(trade_id="1"), event(ts_event=at(1), trade_id="2", sequence=2)])
    before = instant()
    add(lake, "b", [event(ts_event=at(2), status="cancel", corrects="1", trade_id=None, sequence=3)], minute=1)
    after = instant()
    add(lake, "c", [event(ts_event=at(3), trade_id="4", sequence=4)], minute=2)
    for moment, count in ((before, 2), (after, 1)):
        for as_of in (None, lake.head("trades")):
            words: dict[str, Any] = {"as_of": as_of, "known_at": moment}
            assert engine.trades("BHP", columns=["sequence"], **words).to_polars().height == count
            assert engine.summary("BHP", DAY, **words).trade_count == count
            assert engine.bars("BHP", "session", **words).to_polars()["n_trades"].to_list() == [count]


def test_every_verb_knows_what_was_known(lake: Lake, engine: QueryEngine) -> None:
    load(lake, "a", rows=3)
    add(lake, "q", [event()], "quotes")
    moment = instant()
    load(lake, "b", rows=5, minute=1)
    add(lake, "new", [event(symbol="RIO")], minute=2)
    for as_of in (None, lake.head("trades")):
        words: dict[str, Any] = {"as_of": as_of, "known_at": moment}
        assert engine.bars("BHP", "session", **words).to_arrow()["n_trades"].to_pylist() == [3]
        assert engine.summary("BHP", DAY, **words).trade_count == 3
        assert engine.trades("RIO", **words).to_arrow().num_rows == 0
        assert engine.trades(limit=7, **words).to_arrow().num_rows == 3
        assert engine.sql("SELECT count(*) AS n FROM trades", **words).to_arrow()["n"].to_pylist() == [3]
    for found in (engine.symbols(known_at=moment), engine.sessions(known_at=moment)):
        assert found.to_arrow().select(["trades", "quotes"]).to_pylist() == [{"trades": 3, "quotes": 1}]
    own = "SELECT (SELECT count(*) FROM trades) AS a, (SELECT count(*) FROM trades FOR VERSION AS OF 'main') AS b"
    assert engine.sql(own, known_at=moment).to_arrow().to_pylist() == [{"a": 3, "b": 9}]
    assert engine.quotes("BHP", known_at=moment).to_arrow().num_rows == 1


def test_words_that_make_no_sense_together_are_errors(lake: Lake, engine: QueryEngine) -> None:
    load(lake, "a")
    for wrong, problem in (
        ({"known_at": "2014-03-10"}, "zone"),
        ({"known_at": datetime(2014, 3, 10)}, "time zone"),  # noqa: DTZ001 - that is what is refused
        ({"clock": "event"}, "without known_at"),
        ({"clock": "moon", "known_at": BEFORE}, "ingest, recv, event"),
    ):
        with pytest.raises(InvalidParameter, match=problem):
            engine.trades(**wrong)
    with pytest.raises(InvalidParameter, match=r"instruments has no such time. Tables that have: trades, quotes"):
        engine.sql("FROM instruments", known_at=BEFORE, clock="event")


HOUR = 3_600
CANCELLED = [
    # the vendor delivers the mark with the fill, an hour before the cancel that it comes from
    event(ns=0, trade_id="marked", status="cancelled", ts_recv=at(1)),
    event(ns=HOUR * 10**9, status="cancel", corrects="marked", ts_recv=at(HOUR + 1)),
    # no mark: the cancel alone undoes the fill
    event(ns=10, trade_id="bare", ts_recv=at(1)),
    event(ns=2 * HOUR * 10**9 + 5, status="cancel", corrects="bare", ts_recv=at(2 * HOUR + 2)),
    # a correction stands in the place of the fill from its own time
    event(ns=20, trade_id="old", status="superseded", ts_recv=at(1)),
    event(ns=HOUR * 10**9, trade_id="new", status="correction", corrects="old", ts_recv=at(HOUR + 1)),
    # nobody says when this one was cancelled
    event(ns=30, trade_id="unsaid", status="cancelled", ts_recv=at(1)),
    event(ns=40, trade_id="fill", ts_recv=at(1)),
]


@pytest.mark.parametrize(
    ("seconds", "standing", "received"),
    [
        (-1, [], 0),
        (1, ["marked", "bare", "old", "fill"], 5),
        (HOUR - 1, ["marked", "bare", "old", "fill"], 5),
        (HOUR, ["bare", "fill", "new"], 7),
        (2 * HOUR, ["bare", "fill", "new"], 7),
        (2 * HOUR + 2, ["fill", "new"], 8),
    ],
)
@pytest.mark.parametrize("clock", ["event", "recv"])
def test_a_cancel_and_its_mark_apply_from_their_own_time(
    lake: Lake, engine: QueryEngine, *, seconds: int, standing: list[str], received: int, clock: str
) -> None:
    add(lake, "backfill", CANCELLED)
    words: dict[str, Any] = {"known_at": at(seconds + (1 if clock == "recv" and seconds > 0 else 0)), "clock": clock}
    for found in (
        engine.trades("BHP", **words),
        engine.trades(columns=["trade_id"], **words),
        engine.sql("SELECT trade_id FROM trades ORDER BY ts_event_ns", **words),
    ):
        assert found.to_arrow()["trade_id"].to_pylist() == standing
    assert engine.trades(raw=True, **words).to_arrow().num_rows == received
    marks = engine.sql("SELECT count(*) AS n FROM trades_raw WHERE status IN ('cancelled', 'superseded')", **words)
    expected = 0 if seconds < 0 else 1 if seconds < HOUR else 3
    assert marks.to_arrow()["n"].to_pylist() == [expected]
    for raw in (False, True):
        wanted = engine.trades(raw=raw, **words).to_arrow().select(["trade_id", "status"]).to_pylist()
        assert replayed(lake, raw=raw, **words) == wanted
    bars = engine.bars("BHP", "session", **words).to_arrow()
    assert bars["n_trades"].to_pylist() == ([len(standing)] if standing else [])


def replayed(lake: Lake, **words: Any) -> list[dict[str, Any]]:
    """What a replay delivers that is broken off after two events, and goes on from its position."""
    replays = ReplayEngine(lake)
    first = replays.replay(kinds="trades", limit=2, **words)
    head = [batch.select(["trade_id", "status"]) for batch in first.batches()]
    rest = replays.replay(kinds="trades", position=first.position, batch_rows=1, **words)
    return [
        row
        for batch in (*head, *(part.select(["trade_id", "status"]) for part in rest.batches()))
        for row in batch.to_pylist()
    ]


def test_a_replay_of_what_was_known_is_of_that_instant(lake: Lake, wb: k2.Workbench) -> None:
    load(lake, "a", rows=3)
    moment = instant()
    load(lake, "b", rows=5, minute=1)
    words: dict[str, Any] = {"kinds": "trades", "digest": True}
    then = wb.replay(known_at=moment, **words)
    token = then.position
    assert (then.run().digest, then.events) == (wb.replay(as_of=moment, **words).run().digest, 3)
    assert wb.at(moment).replay(**words).run().digest == then.digest
    assert wb.at(None).replay(known_at=moment, **words).run().events == 3
    with pytest.raises(InvalidPosition, match="another query"):
        wb.replay(position=token, **words)
    with pytest.raises(InvalidParameter, match="pinned"):
        wb.at(None).replay(as_of=moment)
    bars: list[k2.Bar] = []
    wb.replay(known_at=at(1), clock="event", **words).run(on_bar=bars.append, interval="1h")
    assert [bar.n_trades for bar in bars] == wb.bars("BHP", "1h", known_at=at(1), clock="event").to_arrow()[
        "n_trades"
    ].to_pylist()


def test_the_clock_of_the_market_counts_nanoseconds(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event(ns=100), event(ns=900), event(ns=1_100)])
    moment = at(0).isoformat().replace("+00:00", ".000000900Z")
    found = engine.trades(known_at=moment, clock="event").to_arrow()
    assert [ns - OPEN_NS for ns in found["ts_event_ns"].to_pylist()] == [100, 900]


def test_a_row_without_a_capture_time_is_an_error_by_that_clock(lake: Lake, engine: QueryEngine) -> None:
    add(lake, "a", [event()])
    with pytest.raises(InvalidParameter, match=r"clock.*no capture time"):
        engine.trades(known_at=at(9), clock="recv").to_arrow()
    assert engine.trades(known_at=at(9), clock="event").to_arrow().num_rows == 1
    moment = at(9) + timedelta(days=9)
    assert engine.quotes(known_at=moment, clock="event").to_arrow().num_rows == 0


def test_the_command_line_and_views_know_it_too(
    lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.settings.home))
    load(lake, "a", rows=3)
    moment = instant().isoformat()
    load(lake, "b", rows=5, minute=1)
    counts = {
        ("trades",): 3,
        ("trades", "--clock", "event", "--known-at", at(1).isoformat()): 4,
        ("sql", "SELECT sequence FROM trades"): 3,
    }
    for words, rows in counts.items():
        told = words if "--known-at" in words else (*words, "--known-at", moment)
        code, out, _ = call(capsys, monkeypatch, query_main, *told, "-o", "json")
        assert (code, len(json.loads(out))) == (0, rows)
    code, out, _ = call(capsys, monkeypatch, query_main, "symbols", "--known-at", moment, "-o", "json")
    assert json.loads(out)[0]["trades"] == 3
    view = k2.connect(settings=lake.settings).at(None)
    assert view.trades(known_at=moment).to_arrow().num_rows == 3
