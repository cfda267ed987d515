"""The ways of a quant, a data engineer and a compliance analyst, from beginning to end, through the doors they use."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import k2kernel as k2
from k2kernel import plots
from k2kernel.cli.app import app
from k2kernel.metrics import METRICS
from k2kernel.sample import generate
from tests.feeds import Feed
from tests.feeds import k2 as k2_of
from tests.streams import Services
from tests.support import ROOT

Command = Callable[..., str]


@pytest.fixture
def cli() -> Command:
    """`cli(*words)` is what the command prints; it must end well, or with the status that is said."""

    def run(*words: str, status: int = 0) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == status, done.stderr
        return done.stdout

    return run


def vendor_files(folder: Path) -> tuple[Path, Path]:
    """Prints and best prices of two symbols in layouts that no shipped profile knows; one print is no number."""
    rng, moment, mid = random.Random(7), datetime(2024, 6, 3, 9, 30, tzinfo=UTC), 10_050
    prints, best = folder / "prints.csv", folder / "best.csv"
    with prints.open("w") as trades, best.open("w") as quotes:
        told, seen = csv.writer(trades), csv.writer(quotes)
        told.writerow(["Date", "Time", "Ticker", "Last Price", "Qty", "Trade No"])
        seen.writerow(["Timestamp", "Ticker", "Bid", "Ask", "Bid Size", "Ask Size"])
        for number in range(2_000):
            moment += timedelta(milliseconds=rng.randrange(1, 9_000))
            mid += rng.choice((-1, 0, 1))
            name, price = rng.choice(("AAPL", "MSFT")), Decimal(mid + rng.choice((-1, 1))) / 100
            seen.writerow([f"{moment:%Y-%m-%d %H:%M:%S.%f}", name, (mid - 1) / 100, (mid + 1) / 100, 500, 400])
            later = moment + timedelta(microseconds=1)
            written = "n/a" if number == 1_000 else price
            told.writerow([f"{later:%m/%d/%Y}", f"{later:%H:%M:%S.%f}", name, written, rng.randrange(1, 500), number])
    return prints, best


def drafted(cli: Command, path: Path) -> str:
    """The profile that is suggested for a file, in the zone of its venue: the one thing that a person must know."""
    draft = cli("profiles", "suggest", str(path))
    assert "CHECK: whose local time it is" in draft
    profile = path.with_suffix(".toml")
    profile.write_text(draft.replace('zone = "UTC"', 'zone = "America/New_York"'))
    return str(profile)


def test_research_from_an_unknown_file_to_a_back_test(cli: Command, tmp_path: Path) -> None:
    prints, best = vendor_files(tmp_path)
    profile = drafted(cli, prints)
    assert "1 of 2,000 lines" in CliRunner().invoke(app, ["ingest", str(prints), "-p", profile, "-v", "XNYS"]).stderr
    cli("ingest", str(best), "-p", drafted(cli, best), "-v", "XNYS")
    assert "'n/a'" in cli("query", "sql", "SELECT reason FROM dead_letter")
    wb = k2.connect()
    bars = wb.bars("AAPL", "5m", session="2024-06-03", hours="rth").to_polars()
    summary = wb.summary("AAPL", "2024-06-03")
    assert (bars["n_trades"].sum(), bars["volume"].sum()) == (summary.trade_count, summary.volume)
    beside = wb.asof(wb.trades("AAPL"), wb.quotes("AAPL")).to_polars()
    away = (beside["price"] * 2 - beside["bid_px"] - beside["ask_px"]).abs()
    assert set(away.to_list()) == {Decimal("0.02")}, "each print is a cent off the mid of the quote just before it"
    book = Follower()
    ran = wb.replay("AAPL", digest=True).run(on_trade=book.trade, on_quote=book.quote)
    assert ran.events == summary.trade_count + wb.quotes("AAPL").count()
    assert book.held == book.expected(beside["price"].to_list(), beside["ask_px"].to_list())
    assert "VWAP" in str(plots.candles(wb, "AAPL", "5m"))


class Follower:
    """Buys one where it trades at the ask that it was shown, sells one where it does not."""

    def __init__(self) -> None:
        self.ask, self.held = Decimal(0), 0

    def quote(self, quote: k2.Quote) -> None:
        self.ask = quote.ask_px or Decimal(0)

    def trade(self, trade: k2.Trade) -> None:
        self.held += 1 if trade.price == self.ask else -1

    @staticmethod
    def expected(prices: list[Decimal], asks: list[Decimal]) -> int:
        """The same from an as-of join instead of a replay."""
        return sum(1 if price == ask else -1 for price, ask in zip(prices, asks, strict=True))


def test_a_feed_with_bad_messages_is_audited_mended_and_tidied(services: Services, tmp_path: Path) -> None:
    feed, alarming = Feed(services, tmp_path / ".k2"), METRICS.stream_letters.series[()]

    def cli(*words: str, status: int = 0) -> Any:
        done = k2_of(feed, *words)
        assert done.exit_code == status, done.stderr
        return done

    counted = alarming[0]
    for part in range(4):
        feed.publish(500, bad=1 if part == 2 else 0)
        cli("stream", "sink", feed.topic, "--until-end")
    assert alarming[0] == counted + 1, "what the alert K2DeadLetters looks at"
    assert "exactly once" in cli("stream", "audit").stderr
    assert cli("stream", "dead-letter", "list", "-o", "csv").stdout.count(feed.topic) == 1
    assert "1 still bad" in cli("stream", "dead-letter", "retry", status=1).stdout
    assert "1 dropped" in cli("stream", "dead-letter", "drop", "--all").stdout
    before = feed.bench.lake.files("trades", feed.bench.lake.head("trades"))
    cli("table", "compact", "trades")
    after = feed.bench.lake.files("trades", feed.bench.lake.head("trades"))
    assert after.rows == before.rows
    assert len(after.files) == 2 < len(before.files)
    feed.publish(500)
    feed.drain()
    assert "exactly once" in cli("stream", "audit").stderr
    assert feed.sequences() == list(range(2_500))


def test_what_was_known_then_and_what_has_changed_is_reported_and_checked_again(cli: Command, tmp_path: Path) -> None:
    files = {file.stem: str(file) for file in generate(tmp_path / "files", rows=9_000, symbols=3)}
    for kind in ("trades", "quotes"):
        cli("ingest", files[f"{kind}-XASX"], "-p", f"k2-{kind}")
    wb = k2.connect()
    then = wb.snapshots("trades")[0].committed_at.isoformat()
    known = wb.summary("BHP", "2024-03-05")
    counts = "symbol = 'BHP' AND session = '2024-03-05' AND trade_id <> '' AND conditions = []"
    (undone,) = wb.sql(f"SELECT * FROM trades WHERE {counts} LIMIT 1").to_arrow().to_pylist()
    header, *_ = Path(files["trades-XASX"]).read_text().splitlines()
    row = dict.fromkeys(header.split(","), "") | {"symbol": "BHP", "venue": "XASX", "trade_id": "cancel-1"}
    row |= {"ts_event": "2024-03-05T05:30:00Z", "sequence": "1", "status": "cancel", "corrects": undone["trade_id"]}
    cancels = tmp_path / "cancels.csv"
    cancels.write_text(f"{header}\n{','.join(row.values())}\n")
    cli("ingest", str(cancels), "-p", "k2-trades")

    cli("table", "pin", "then", "--as-of", then)
    assert wb.summary("BHP", "2024-03-05", as_of="then").volume == known.volume
    assert wb.summary("BHP", "2024-03-05").volume == known.volume - undone["size"]
    changed = wb.diff("trades", "then", wb.lake.head("trades"))
    assert "BHP" in cli("table", "diff", "trades", "then", "--show", "symbols", "-o", "csv")
    assert changed.symbols().to_polars()["symbol"].to_list() == ["BHP"]
    words = ["-p", "session=2024-03-05", "--as-of", "then", "--folder", str(tmp_path / "report")]
    folder = cli("run", str(ROOT / "notebooks" / "daily_report.ipynb"), *words).strip()
    assert f"{known.volume:,.0f}" in (Path(folder) / "report.html").read_text()
    cli("run", "--verify", folder)
    sealed = wb.evidence(wb.trades("BHP", session="2024-03-05", as_of="then"), tmp_path / "evidence")
    cli("run", "--verify", str(sealed.folder))
    lines = (Path(sealed.folder) / "lines.csv").read_text()
    assert files["trades-XASX"] in lines
    assert str(cancels) not in lines
