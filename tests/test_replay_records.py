"""What comes between and after the events: sessions, gaps, bars, callbacks, sinks."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from k2kernel.cli.app import app
from k2kernel.errors import InvalidParameter
from k2kernel.lake import Lake
from k2kernel.replay import Bar, Control, Quote, Ran, ReplayEngine, Trade
from k2kernel.sinks import Sink
from k2kernel.workbench import Workbench
from tests.query_lake import DAY, NEXT, add, at, event
from tests.replays import flat, identity, sample_bench
from tests.support import ROOT
from tests.travel import writer_at_work


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return sample_bench(tmp_path_factory.mktemp("records"))


def test_sessions_open_before_their_first_event_and_close_after_their_last(bench: Workbench) -> None:
    records = list(bench.replay().records())
    opened: dict[str, Any] = {}
    seen: Counter[Any] = Counter()
    for record in records:
        if isinstance(record, Trade | Quote):
            assert opened[record.venue] == record.session
            seen[record.venue, record.session] += 1
        elif isinstance(record, Control) and record.name == "session_open":
            assert record.venue not in opened
            assert record.details == {}
            opened[str(record.venue)] = record.session
        elif isinstance(record, Control) and record.name == "session_close":
            assert opened.pop(str(record.venue)) == record.session
    assert not opened
    assert len(seen) == 6
    last = records[-1]
    assert isinstance(last, Control)
    assert (last.name, last.details["events"]) == ("replay_completed", seen.total())
    assert last.details["snapshots"] == {name: str(pin) for name, pin in bench.replay().snapshots.items()}


def test_a_resumed_session_says_so(bench: Workbench) -> None:
    replay = bench.replay(limit=100)
    assert [record.name for record in replay.records() if isinstance(record, Control)] == ["session_open"]
    first = next(bench.replay(position=replay.position).records())
    assert isinstance(first, Control)
    assert (first.name, first.details) == ("session_open", {"resumed": True})
    assert first.to_dict()["session"] == str(first.session)
    json.dumps(first.to_dict())


def test_a_correction_of_an_earlier_session_opens_nothing(lake: Lake) -> None:
    days = [
        event(),
        event(session=NEXT, ts_event=at(0, NEXT)),
        event(ts_event=at(1, NEXT)),
        event(session=NEXT, ts_event=at(2, NEXT)),
    ]
    add(lake, "a", days)
    names = [record.name for record in ReplayEngine(lake).replay().records() if isinstance(record, Control)]
    assert names == ["session_open", "session_close", "session_open", "session_close", "replay_completed"]


def test_gaps_in_what_the_numbers_count(lake: Lake) -> None:
    numbers = [1, 2, 5, 5, 4, 6, 9]
    rows = [event(ts_event=at(n), sequence=number, symbol="AB"[n % 2]) for n, number in enumerate(numbers)]
    add(lake, "a", rows)
    engine = ReplayEngine(lake)

    def gaps(scope: str | None) -> list[tuple[str, int, int]]:
        records = engine.replay(gaps=scope).records()
        found = [record.details for record in records if isinstance(record, Control) and record.name == "gap"]
        return [(details["symbol"], details["expected"], details["found"]) for details in found]

    assert gaps(None) == []
    assert gaps("source") == [("A", 3, 5), ("A", 7, 9)]
    assert gaps("instrument") == [("A", 2, 5), ("B", 3, 5), ("A", 6, 9)]


def test_callbacks_get_every_event_and_the_end(bench: Workbench) -> None:
    found: list[Any] = []
    ends: list[Ran] = []
    ran = bench.replay(digest=True).run(found.append, found.append, on_end=ends.append)
    assert found == list(bench.replay())
    assert ends == [ran]
    assert (ran.events, ran.state) == (len(found), "completed")


def test_an_event_whose_callback_fails_comes_again(bench: Workbench) -> None:
    everything = [event.source_offset for event in bench.replay()]
    replay, found = bench.replay(digest=True), list[int]()

    def fail_at_hundred(row: Trade | Quote) -> None:
        if len(found) == 100:
            raise RuntimeError("no")
        found.append(row.source_offset)

    with pytest.raises(RuntimeError, match="no"):
        replay.run(fail_at_hundred, fail_at_hundred)
    assert replay.events == 100
    token = replay.position
    found += [row.source_offset for row in replay]
    assert found == everything
    assert replay.digest == bench.replay(digest=True).run().digest
    assert [row.source_offset for row in bench.replay(position=token)] == everything[100:]


KINDS: list[dict[str, Any]] = [
    *({}, {"interval": "5s"}, {"of": "mid", "interval": "1h"}, {"eligible": "all"}, {"interval": "90m"}),
    *({"interval": interval} for interval in ("1d", "session", "3d", "tick:7", "volume:2500", "dollar:1e5")),
    {"of": "bid", "interval": "tick:10"},
]


@pytest.mark.parametrize("words", KINDS)
def test_bars_are_those_of_the_read_verb_and_never_early(bench: Workbench, words: dict[str, Any]) -> None:
    got: list[Any] = []
    bench.replay().run(got.append, got.append, on_bar=got.append, **words)
    bars = [item for item in got if isinstance(item, Bar)]
    words = {"interval": "1m", **words, "columns": "all", "by_close": True}
    assert bars == [Bar(**row) for row in bench.bars(None, **words).to_arrow().to_pylist()]
    latest = 0
    waiting = {(bar.ts_close_ns, bar.venue, bar.symbol) for bar in bars}
    for item in got:
        if isinstance(item, Bar):
            assert latest < item.ts_close_ns
            waiting.discard((item.ts_close_ns, item.venue, item.symbol))
        else:
            assert item.ts_event_ns >= latest
            latest = item.ts_event_ns
    assert not waiting


def test_bars_of_a_resumed_replay_are_the_rest(bench: Workbench) -> None:
    everything: list[Bar] = []
    bench.replay().run(on_bar=everything.append)
    first, rest = list[Bar](), list[Bar]()
    replay = bench.replay(limit=1_500)
    replay.run(on_bar=first.append)
    bench.replay(position=replay.position).run(on_bar=rest.append)
    assert first
    assert first + rest == everything


def test_bars_that_a_replay_does_not_follow_are_refused(bench: Workbench) -> None:
    for interval, of in (("x", "trades"), ("tick:0", "trades"), ("volume:100", "mid")):
        with pytest.raises(InvalidParameter, match="interval"):
            bench.replay().run(on_bar=print, interval=interval, of=of)
    with pytest.raises(InvalidParameter, match="not replayed"):
        bench.replay(kinds=("quotes",)).run(on_bar=print)
    assert bench.replay(kinds=("quotes",)).run(on_bar=lambda _: None, of="bid").state == "completed"


def test_a_parquet_file_holds_the_batches(bench: Workbench, tmp_path: Path) -> None:
    place = tmp_path / "out.parquet"
    ran = bench.replay(batch_rows=777, digest=True).publish(place)
    assert pq.read_table(place).equals(pa.Table.from_batches(bench.replay().batches()))
    assert (ran.state, list(tmp_path.iterdir())) == ("completed", [tmp_path / ".k2", place][1:])


def test_an_ndjson_file_is_exact(bench: Workbench, tmp_path: Path) -> None:
    bench.replay(batch_rows=777).publish(str(tmp_path / "out.ndjson"))
    lines = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text(encoding="utf-8").splitlines()]
    rows = flat(bench.replay().batches())
    assert [identity(line) for line in lines] == [identity(row) for row in rows]
    for line, row in zip(lines, rows, strict=True):
        prices = ("price", "size") if row["kind"] == "trades" else ("bid_px", "ask_px", "bid_sz", "ask_sz")
        assert [None if line[p] is None else Decimal(line[p]) for p in prices] == [row[p] for p in prices]
        assert ("price" in line) == (row["kind"] == "trades")
        assert line["ts_event"] == row["ts_event"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_a_sink_that_fails_leaves_nothing(bench: Workbench, tmp_path: Path) -> None:
    class Full:
        def __init__(self) -> None:
            self.did: list[str] = []

        def write(self, batch: pa.RecordBatch) -> None:
            self.did.append("write")
            raise OSError("no space")

        def close(self) -> None:
            self.did.append("close")

        def discard(self) -> None:
            self.did.append("discard")

    sink = Full()
    assert isinstance(sink, Sink)
    with pytest.raises(OSError, match="no space"):
        bench.replay().publish(sink)
    assert sink.did == ["write", "discard"]
    for wrong in (tmp_path / "x.doc", tmp_path / "none" / "x.parquet"):
        with pytest.raises(InvalidParameter, match="sink"):
            bench.replay().publish(wrong)


def test_an_empty_replay_publishes_an_empty_file(lake: Lake, tmp_path: Path) -> None:
    ReplayEngine(lake).replay().publish(tmp_path / "x.parquet")
    assert pl.read_parquet(tmp_path / "x.parquet").height == 0


def k2(bench: Workbench, *words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--home", str(bench.settings.home)])
    assert done.exit_code == 0, done.output
    return done


def test_the_back_test_in_the_readme(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Replay")[2]
    block = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert block
    monkeypatch.setenv("K2_HOME", str(bench.settings.home))
    exec(compile(block.group(1), "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == "3576 -500 -270.00000000\n"


def test_the_command_line_pages_through_a_replay_while_a_writer_is_at_work(tmp_path: Path) -> None:
    bench = sample_bench(tmp_path, rows=2_000, sessions=1)
    wanted = [identity(row) for row in flat(bench.replay(["CBA"]).batches())]
    found, position = list[Any](), list[str]()
    with writer_at_work(bench.lake, event(symbol="CBA", session=DAY)):
        for door in cycle(("replay", "query replay")):
            words = [*door.split(), "-s", "CBA", "--batch-rows", "7", "--limit", "60", "-o", "ndjson", *position]
            done = k2(bench, *words)
            page = [identity(json.loads(line)) for line in done.stdout.splitlines()]
            found += page
            position = ["--position", done.stderr.split("position: ")[1].strip()]
            if len(page) < 60:
                break
    assert found == wanted
    assert len(wanted) > 180


def test_the_command_line_writes_a_replay_in_every_format(bench: Workbench) -> None:
    assert len(json.loads(k2(bench, "replay", "-s", "CBA", "-n", "3", "-o", "json").stdout)) == 3
    assert k2(bench, "replay", "-s", "CBA", "-n", "3").stdout.startswith("kind")
    assert "digest" in k2(bench, "replay", "--kind", "trades", "--digest", "-n", "2", "-o", "csv").stderr
    nothing = k2(bench, "replay", "--session", str(DAY + timedelta(days=9_000)), "-o", "csv").stdout
    assert nothing.startswith("kind,symbol")
