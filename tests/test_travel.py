"""One `as_of` everywhere: every spelling, through Python, SQL and the command line, whatever happens afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

import k2kernel as k2
from k2kernel.cli import main, query_main
from k2kernel.cli.app import app
from k2kernel.errors import ExpiredReference, InvalidParameter, UnknownReference
from k2kernel.lake import Lake
from k2kernel.query import Diff
from k2kernel.workbench import Workbench
from tests.query_lake import DAY, add, at, event
from tests.test_cli import call
from tests.travel import compact, expire_past, writer_at_work

TABLES = ("trades", "quotes")


@dataclass
class States:
    """The ids of three commits of each table, and a time at which each was current."""

    ids: dict[str, list[int]]
    moments: list[datetime]

    def references(self, table: str, number: int) -> list[Any]:
        """Every way to say the state `number` of a table."""
        moment = self.moments[number]
        snapshot = self.ids[table][number]
        return [snapshot, str(snapshot), f"tag-{number}", f"branch-{number}", f"pin-{number}", moment, str(moment)]


@pytest.fixture
def states(lake: Lake, wb: Workbench) -> States:
    """State n of a table has the n + 1 rows with sequences 0 to n."""
    found = States({table: [] for table in TABLES}, [])
    for number in range(3):
        for table in TABLES:
            row = event(ts_event=at(number), sequence=number)
            snapshot = add(lake, f"{table}-{number}", [row], table, minute=number)
            found.ids[table].append(snapshot)
            wb.tag(table, f"tag-{number}")
            lake.table(table).manage_snapshots().create_branch(snapshot, f"branch-{number}").commit()
        wb.pin(f"pin-{number}", TABLES)
        time.sleep(0.003)
        found.moments.append(datetime.now(UTC))
        time.sleep(0.003)
    return found


def sequences(result: k2.Result) -> list[int]:
    return sorted(result.to_arrow()["sequence"].to_pylist())


def write_more(lake: Lake, wb: Workbench, states: States) -> None:
    for table in TABLES:
        add(lake, f"{table}-late", [event(ts_event=at(9), sequence=9)], table, minute=9)


def roll_back(lake: Lake, wb: Workbench, states: States) -> None:
    for table in TABLES:
        wb.rollback(table, states.ids[table][0])


def rewrite(lake: Lake, wb: Workbench, states: States) -> None:
    for table in TABLES:
        compact(lake, table)


AFTER: list[Callable[[Lake, Workbench, States], None]] = [write_more, roll_back, rewrite]


@pytest.mark.parametrize("happens", AFTER)
@pytest.mark.parametrize("table", TABLES)
def test_every_reference_answers_from_its_state(
    lake: Lake, wb: Workbench, states: States, table: str, happens: Callable[..., None]
) -> None:
    happens(lake, wb, states)
    for number in range(3):
        rows = list(range(number + 1))
        for reference in states.references(table, number):
            assert sequences(getattr(wb, table)("BHP", as_of=reference)) == rows
            assert sequences(wb.sql(f"SELECT sequence FROM {table}", as_of=reference)) == rows
            view = wb.at(reference)
            assert sequences(getattr(view, table)()) == rows
            assert sequences(view.sql(f"SELECT * FROM {table}")) == rows
            assert view.snapshots(table)[0].id == view.states[table] == states.ids[table][number]
            of = "trades" if table == "trades" else "mid"
            assert wb.bars("BHP", "session", of=of, as_of=reference).to_arrow()["last_sequence"].to_pylist() == [number]


def clauses(table: str, reference: object) -> list[str]:
    """Every spelling of a table at a state in SQL."""
    name = f"{reference}" if isinstance(reference, int) else f"'{reference}'"
    if isinstance(reference, datetime):
        return [
            f"{table} FOR TIMESTAMP AS OF {name}",
            f"{table} FOR SYSTEM_TIME AS OF {name}",
            f"{table} TIMESTAMP AS OF {name}",
            f"{table} AT (TIMESTAMP => {name})",
        ]
    return [
        f"{table} FOR VERSION AS OF {name}",
        f"{table} VERSION AS OF {name}",
        f"{table} AT (VERSION => {name})",
    ]


@pytest.mark.parametrize("happens", AFTER)
@pytest.mark.parametrize("table", TABLES)
def test_every_spelling_in_sql_answers_from_its_state(
    lake: Lake, wb: Workbench, states: States, table: str, happens: Callable[..., None]
) -> None:
    happens(lake, wb, states)
    for reference in states.references(table, 1):
        for clause in clauses(table, reference):
            found = wb.sql(f"SELECT sequence FROM {clause} WHERE symbol = 'BHP'")
            assert sequences(found) == [0, 1], clause
            assert list(found.snapshots.values()) == [states.ids[table][1]]


@pytest.mark.parametrize("table", TABLES)
def test_the_command_line_answers_from_each_state(
    lake: Lake,
    wb: Workbench,
    states: States,
    *,
    table: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.settings.home))
    write_more(lake, wb, states)
    for reference in states.references(table, 1):
        for words in ((table,), ("sql", f"SELECT sequence FROM {table} ORDER BY 1")):
            code, out, _ = call(capsys, monkeypatch, query_main, *words, "--as-of", str(reference), "-o", "json")
            assert (code, [row["sequence"] for row in json.loads(out)]) == (0, [0, 1])
    code, out, err = call(capsys, monkeypatch, query_main, table, "--as-of", "nothing")
    assert (code, out) == (2, "")
    assert "pin-0, pin-1, pin-2, tag-0" in err


def test_one_statement_joins_two_versions(wb: Workbench, states: States) -> None:
    text = (
        "SELECT a.sequence AS a, b.sequence AS b FROM trades FOR VERSION AS OF 'tag-0' a "
        "FULL JOIN trades AT (VERSION => 'pin-2') b USING (source, source_offset) ORDER BY b"
    )
    found = wb.sql(text).to_arrow()
    assert (found["a"].to_pylist(), found["b"].to_pylist()) == ([0, None, None], [0, 1, 2])


def test_what_is_not_there_says_what_there_is(wb: Workbench, states: States) -> None:
    for reference in (7, "7", "nothing"):
        for read in (wb.trades, wb.at, lambda as_of: wb.sql("FROM trades", as_of=as_of)):
            with pytest.raises(UnknownReference, match=r"pin-0.*tag-2; \d+ \(20"):
                read(as_of=reference)
    for reference, problem in (("2014-03-10", "bare date"), ("Eod", "no snapshot id, name or time"), (True, "as_of")):
        with pytest.raises(InvalidParameter, match=problem):
            wb.trades(as_of=reference)


def test_an_id_is_of_one_table(wb: Workbench, states: States) -> None:
    first = states.ids["trades"][0]
    assert sequences(wb.sql("SELECT sequence FROM trades", as_of=first)) == [0]
    assert wb.summary("BHP", DAY, as_of=first).trade_count == 1
    assert wb.stats(as_of=first).to_arrow()["table"].to_pylist() == ["trades"]
    wrong = f"as_of='{first}' is a snapshot of trades, not of quotes. It has"
    for read in (wb.quotes, wb.symbols, wb.sessions, lambda as_of: wb.sql("FROM trades, quotes", as_of=as_of)):
        with pytest.raises(UnknownReference, match=wrong):
            read(as_of=first)
    assert sequences(wb.at(first).trades()) == [0]
    with pytest.raises(UnknownReference, match=wrong):
        wb.at(first).quotes()


def test_metadata_of_a_state_is_of_both_tables(wb: Workbench, states: States) -> None:
    for reference in ("tag-0", "pin-0", states.moments[0]):
        for found in (wb.symbols(reference), wb.at(reference).symbols(), wb.at(reference).sessions()):
            assert found.to_arrow().select(["trades", "quotes"]).to_pylist() == [{"trades": 1, "quotes": 1}]


def test_a_table_that_came_later_is_empty_in_reads_of_several(lake: Lake, wb: Workbench) -> None:
    add(lake, "a", [event()])
    wb.pin("early")
    moment = datetime.now(UTC)
    time.sleep(0.003)
    add(lake, "q", [event()], "quotes")
    for reference in ("early", moment):
        assert wb.symbols(reference).to_arrow()["quotes"].to_pylist() == [0]
    assert wb.quotes("BHP", as_of="early").to_arrow().num_rows == 0
    with pytest.raises(UnknownReference, match="had no snapshot yet"):
        wb.quotes(as_of=moment)


def test_what_a_result_read_is_an_as_of(lake: Lake, wb: Workbench, states: States) -> None:
    result = wb.sql("SELECT * FROM trades, quotes LIMIT 0", as_of="tag-1")
    write_more(lake, wb, states)
    assert sequences(wb.trades(as_of=result.snapshots)) == [0, 1]
    assert sequences(wb.sql("FROM quotes", as_of=result.snapshots)) == [0, 1]
    with pytest.raises(UnknownReference, match=r"says nothing of instruments, which has no snapshot yet\.$"):
        wb.sql("FROM instruments", as_of=result.snapshots)
    with pytest.raises(ExpiredReference, match="snapshot 7 of trades is not kept"):
        wb.trades(as_of={"trades": 7})
    with pytest.raises(InvalidParameter, match="no snapshot id"):
        wb.trades(as_of={"trades": "eod"})


def test_a_view_stays_where_it_is(lake: Lake, wb: Workbench, states: States) -> None:
    now, tagged = wb.at(None), wb.at("tag-1")
    wb.tag("trades", "tag-1", "tag-0", move=True)
    write_more(lake, wb, states)
    roll_back(lake, wb, states)
    assert sequences(now.trades("BHP")) == [0, 1, 2]
    assert sequences(tagged.trades()) == [0, 1]
    assert sequences(tagged.at("tag-0").trades()) == [0]
    assert sequences(tagged.sql("FROM trades FOR VERSION AS OF 'tag-2'")) == [0, 1, 2]
    assert tagged.summary("BHP", DAY).trade_count == 2
    assert tagged.stats().to_arrow()["rows"].to_pylist()[:2] == [2, 2]
    assert [found.id for found in tagged.snapshots("quotes")] == states.ids["quotes"][1::-1]
    with pytest.raises(InvalidParameter, match="pinned"):
        tagged.trades(as_of="tag-0")
    assert "trades at" in repr(tagged)


def test_an_expired_state_is_an_error_of_its_own(lake: Lake, wb: Workbench, states: States) -> None:
    view = wb.at(states.ids["trades"][0])
    lake.unpin("pin-0")
    lake.untag("trades", "tag-0")
    lake.table("trades").manage_snapshots().remove_branch("branch-0").commit()
    lake.table("trades").maintenance.expire_snapshots().by_id(states.ids["trades"][0]).commit()
    moment = states.moments[0]
    reads: list[Callable[[], Any]] = [view.trades, lambda: wb.trades(as_of=moment), lambda: wb.symbols(moment)]
    for read in reads:
        with pytest.raises(ExpiredReference, match=r"It has: "):
            read()


def test_snapshots_are_listed_with_all_that_says_which_one(
    lake: Lake, wb: Workbench, states: States, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.settings.home))
    compact(lake)
    for door, words in ((query_main, ()), (main, ("table",)), (main, ("query",))):
        code, out, _ = call(capsys, monkeypatch, door, *words, "snapshots", "trades", "-o", "json")
        newest, third, *_ = json.loads(out)
        assert code == 0
        assert (newest["operation"], newest["rows_total"], third["operation"]) == ("overwrite", 3, "append")
        assert (third["id"], third["rows_added"]) == (str(states.ids["trades"][2]), 1)
        assert (third["source"], third["tags"]) == ("trades-2.csv", ["branch-2", "pin-2", "tag-2"])
        assert third["committed_at"].endswith("Z")


def test_a_writer_and_a_compaction_at_work_change_no_answer(lake: Lake, wb: Workbench, states: States) -> None:
    view, door = wb.at("pin-1"), ["--home", str(lake.settings.home), "-o", "json"]
    with writer_at_work(lake, event(ts_event=at(3), sequence=3)):
        for _ in range(2):
            for table in TABLES:
                assert sequences(getattr(view, table)()) == [0, 1]
                for reference in states.references(table, 1):
                    assert sequences(getattr(wb, table)("BHP", as_of=reference)) == [0, 1]
                    told = CliRunner().invoke(app, ["query", table, "--as-of", str(reference), *door]).stdout
                    assert [row["sequence"] for row in json.loads(told)] == [0, 1]
                assert sequences(getattr(wb, table)(known_at=states.moments[1])) == [0, 1]
                assert counts(wb.diff(table, "pin-0", "pin-1")) == (1, 0, 0)
    assert len(sequences(wb.trades())) > 4
    added = counts(wb.diff("trades", "pin-1"))
    assert added == (len(sequences(wb.trades())) - 2, 0, 0)


def counts(diff: Diff) -> tuple[int, int, int]:
    return diff.summary.added, diff.summary.removed, diff.summary.changed


def test_the_past_can_go_while_the_present_stays(lake: Lake, wb: Workbench) -> None:
    add(lake, "a", [event(price=Decimal(1))])
    add(lake, "b", [event(ts_event=at(1))], minute=1)
    compact(lake)
    expire_past(lake)
    assert len(wb.snapshots()) == 1
    assert wb.trades().to_arrow().num_rows == 2
