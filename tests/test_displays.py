"""How a notebook shows what the workbench gives out: whole tables, aligned, with nothing of the text taken as HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import k2kernel as k2
from k2kernel.html import Listing, amount, figure, record, table, text
from k2kernel.ingest.audit import Audit, Finding
from k2kernel.ingest.stream import Streamed
from k2kernel.metrics import METRICS
from tests.query_lake import DAY


class Parsed(HTMLParser):
    """The texts of a page; an element that is not closed where it should be is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def texts(shown: Any) -> list[str]:
    return Parsed(shown._repr_html_()).texts


def _ingested(bench: k2.Workbench) -> k2.Receipt:
    header, row = "ts_event,symbol,venue,price,size", "2014-03-12T01:00:00Z,BHP,XASX,1,1"
    Path("more.csv").write_text(f"{header}\n{row}\n{row}\n")
    return bench.ingest("more.csv", "k2-trades")


SHOWN: dict[str, tuple[Callable[[k2.Workbench], Any], list[str]]] = {
    "Result": (lambda wb: wb.trades("BHP"), ["price", "35.105", "rows; trades at "]),
    "Summary": (
        lambda wb: wb.summary("RIO", DAY, eligible="all"),
        ["RIO on XASX, 2014-03-10", "-0.01", "policy all · all hours", "10:00:02 to 10:00:02 Australia/Sydney"],
    ),
    "Receipt": (_ingested, ["rows added", "2", "trades: 2 rows"]),
    "Snapshot": (lambda wb: wb.snapshots()[0], ["rows_total", "36", "append"]),
    "snapshots": (lambda wb: wb.snapshots(), ["id", "rows_added", "30", "eod", "3 rows"]),
    "Pin": (lambda wb: wb.pin("night"), ["night", "trades at "]),
    "pins": (lambda wb: [wb.pin("night"), wb.pins()][1], ["night", "1 row"]),
    "Reference": (lambda wb: wb.tags("trades"), ["eod", "tag", "1 row"]),
    "Diff": (lambda wb: wb.diff("trades", "eod"), ["32 rows added", "Bars of 1m that differ", "RIO"]),
    "View": (lambda wb: wb.at("eod"), ["view of the lake", "quotes"]),
    "Workbench": (lambda wb: wb, ["Workbench(", "dead_letter", "36"]),
    "Quality": (lambda wb: wb.quality(), ["rows received", "3 instruments, 2 sessions"]),
    "Ran": (lambda wb: wb.replay("RIO").run(), ["replay", "34", "completed"]),
    "Rollback": (lambda wb: wb.rollback("trades", "eod"), ["(4 rows)", "the state before is before-rollback-"]),
    "Upkeep": (lambda wb: wb.maintain("trades", dry_run=True), ["compact (dry run)", "3 → 2"]),
    "Trace": (lambda wb: [_ingested(wb), wb.trace("trades", *_last(wb))][1], ["more.csv", "k2-trades"]),
    "Evidence": (lambda wb: wb.evidence(wb.trades("BHP")), ["evidence", "symbol: BHP", "trades at "]),
    "Audit": (
        lambda _: Audit((Finding("trades", "market.x/0", 0, 12_000, 2, 12_000, 0),)),
        ["exactly once: 12,000 rows of 1 partition,", "12,000", "market.x/0"],
    ),
    "Streamed": (lambda _: Streamed(2_000, {"trades": 2_000}, 0, 2), ["2,000 messages in 2 batches"]),
}


def _last(bench: k2.Workbench) -> tuple[str, int]:
    found = bench.trades("BHP", session="2014-03-12", columns=["source", "source_offset"]).to_arrow().to_pylist()[-1]
    return found["source"], found["source_offset"]


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_says_what_it_is(bench: k2.Workbench, name: str) -> None:
    make, wanted = SHOWN[name]
    told = texts(make(bench))
    for each in wanted:
        assert each in told or any(each in line for line in told if len(each) > 3), (each, told)


def test_a_result_shows_its_rows_and_not_what_is_empty(bench: k2.Workbench) -> None:
    told = texts(bench.trades("RIO", session="2014-03-10"))
    assert "ts_event (Australia/Sydney)" in told
    assert "a" * 12 + "…" in told
    assert not {"ts_recv_ns", "extra"} & set(told)
    assert any(line.startswith("nothing in exec_venue, ts_event_ns") for line in told)
    assert "symbol" in texts(bench.trades("RIO", start="2015-01-01", end="2015-01-02")), "headings without rows"


def test_times_are_shown_in_another_zone_where_it_is_asked_for(bench: k2.Workbench) -> None:
    found = bench.trades("RIO", session="2014-03-10", columns=["ts_event"])
    assert "2014-03-10 10:00:02.000" in texts(found)
    told = texts(found.tz("UTC"))
    assert told[:2] == ["ts_event (UTC)", "2014-03-09 23:00:02.000"]
    assert found.tz("UTC").to_arrow().equals(found.to_arrow())
    with pytest.raises(k2.K2Error, match="tz='Sydney': is no time zone"):
        found.tz("Sydney")


def test_figures_as_people_read_them() -> None:
    assert [figure("volume", value) for value in (1_234_567, Decimal("-0.50"), Decimal("1234567.250"), None)] == [
        "1,234,567", "-0.5", "1,234,567.25", "",
    ]  # fmt: skip
    assert figure("snapshot_id", 6_489_123_521_812_997_724) == "6489123521812997724"
    assert [amount(count) for count in (999, 12_345, 1_234_567, 9_876_543_210)] == [
        "999 bytes", "12.3 kB", "1.2 MB", "9.9 GB",
    ]  # fmt: skip
    assert text(datetime(2024, 3, 4, 10, 0, 1, 500_000, tzinfo=UTC)) == "2024-03-04 10:00:01.5 UTC"


def test_a_cell_counts_what_it_reads_once_however_often_it_is_shown(bench: k2.Workbench) -> None:
    shell = InteractiveShell()
    shell.user_ns["wb"] = bench
    shell.run_line_magic("load_ext", "k2kernel")
    before = METRICS.query_files.series[()][0]
    answer = shell.run_line_magic("k2sql", "SELECT count(*) AS n FROM trades")
    for _ in range(3):
        assert "3 of 3 files" in answer._repr_html_()
    assert answer.to_arrow()["n"].to_pylist() == [34]
    assert METRICS.query_files.series[()][0] == before + 6, "once for its rows, once for the terminal"


def test_no_text_is_taken_as_html() -> None:
    @dataclass(frozen=True)
    class Named:
        name: str

    for page in (table(["<i>"], [["<b>"]], title="<u>", below=["<s>"]), record({"<i>": "<b>"}, "<u>")):
        assert {"<i>", "<b>", "<u>"} <= set(Parsed(page).texts)
    assert texts(Listing([Named("<b>")])) == ["name", "<b>", "1 row"]
    assert texts(Listing([])) == ["none"]
