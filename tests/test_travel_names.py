"""Tags, pins, holds and rollbacks."""

from __future__ import annotations

import json
import multiprocessing
from datetime import date
from pathlib import Path

import pytest

import k2kernel as k2
from k2kernel.cli import main
from k2kernel.config import Settings
from k2kernel.errors import CommitConflict, InvalidParameter, UnknownReference
from k2kernel.lake import Lake
from k2kernel.lake.pins import property_of, today
from k2kernel.lake.refs import change
from k2kernel.schemas import TABLES
from k2kernel.workbench import Workbench
from tests.query_lake import add, at, event
from tests.test_cli import ROWS, call

FAR = date(2999, 12, 31)


def count(wb: Workbench, as_of: k2.times.AsOfLike = None, table: str = "trades") -> int:
    return int(wb.sql(f"SELECT count(*) AS n FROM {table}", as_of=as_of).to_arrow()["n"][0].as_py())


def test_a_pin_names_the_state_of_every_table(lake: Lake, wb: Workbench) -> None:
    ids = {"trades": add(lake, "a", [event()]), "quotes": add(lake, "q", [event(), event()], "quotes")}
    pin = wb.pin("eod-2014-03-10")
    assert {table: state for table, state in pin.snapshots.items() if state is not None} == ids
    assert pin.snapshots.keys() == TABLES.keys()
    add(lake, "b", [event(ts_event=at(1))], minute=1)
    add(lake, "i", [{"symbol": "BHP", "venue": "XASX"}], "instruments")
    assert (count(wb, pin.name), count(wb, pin.name, "quotes"), count(wb, pin.name, "instruments")) == (1, 2, 0)
    assert count(wb) == 2
    assert k2.connect(settings=lake.settings).pins() == [pin]
    assert [(ref.name, ref.kind, ref.snapshot_id) for ref in wb.tags("trades")] == [(pin.name, "pin", ids["trades"])]
    assert [(ref.kind, ref.snapshot_id) for ref in wb.tags("instruments")] == [("pin", None)]
    with pytest.raises(InvalidParameter, match="Move it with move=True"):
        wb.pin(pin.name)
    moved = wb.pin(pin.name, ("trades",), move=True)
    assert wb.pins() == [moved]
    assert count(wb, pin.name) == 2
    assert wb.tags("quotes") == []
    wb.unpin(pin.name)
    assert wb.pins() == []
    assert wb.tags("trades") == []
    with pytest.raises(UnknownReference, match="there is no pin 'eod-2014-03-10'"):
        wb.unpin(pin.name)


def test_a_pin_that_was_cut_short_says_so_and_can_be_completed(lake: Lake, wb: Workbench) -> None:
    add(lake, "a", [event()])
    add(lake, "q", [event()], "quotes")
    pin = wb.pin("eod")
    change(lake.table("quotes"), remove=["eod"], forget=[property_of("eod")])
    (cut,) = wb.pins()
    assert (cut.complete, cut.snapshots) == (False, pin.snapshots)
    wb.pin("eod", as_of=pin.snapshots)
    assert wb.pins() == [pin]


def test_pins_over_some_tables_and_of_a_past_state(lake: Lake, wb: Workbench) -> None:
    first = add(lake, "a", [event()])
    add(lake, "b", [event(ts_event=at(1))], minute=1)
    assert wb.pin("first", ("trades",), first).snapshots == {"trades": first}
    add(lake, "q", [event()], "quotes")
    with pytest.raises(UnknownReference, match="is a snapshot of trades, not of quotes"):
        wb.pin("second", ("trades", "quotes"), first)
    assert [pin.name for pin in wb.pins()] == ["first"]


@pytest.mark.parametrize("name", ["main", "2014-03-10", "Eod", "7", ""])
def test_what_is_no_name_for_a_pin(lake: Lake, wb: Workbench, name: str) -> None:
    add(lake, "a", [event()])
    with pytest.raises(InvalidParameter, match="no name"):
        wb.pin(name)
    assert wb.pins() == []


def test_nothing_can_be_pinned_in_an_empty_lake(wb: Workbench) -> None:
    with pytest.raises(UnknownReference):
        wb.pin("eod")
    assert wb.pins() == []


def test_a_tag_and_a_pin_do_not_take_each_others_name(lake: Lake, wb: Workbench) -> None:
    first = add(lake, "a", [event()])
    wb.tag("trades", "tagged")
    wb.pin("pinned")
    add(lake, "b", [event(ts_event=at(1))], minute=1)
    with pytest.raises(InvalidParameter, match="stands at snapshot"):
        wb.pin("tagged")
    for move in (False, True):
        with pytest.raises(InvalidParameter, match="is a pin of trades and other tables"):
            wb.tag("trades", "pinned", move=move)
    with pytest.raises(InvalidParameter, match="Remove it with unpin"):
        wb.untag("trades", "pinned")
    assert wb.pin("tagged", move=True).snapshots["trades"] != first
    with pytest.raises(UnknownReference, match="nothing"):
        wb.untag("trades", "nothing")
    lake.table("trades").manage_snapshots().create_branch(first, "draft").commit()
    with pytest.raises(InvalidParameter, match="is a branch"):
        wb.untag("trades", "draft")
    assert [(ref.name, ref.kind) for ref in wb.tags()] == [("draft", "branch"), ("pinned", "pin"), ("tagged", "pin")]


def test_a_hold_lasts_until_its_day(lake: Lake, wb: Workbench) -> None:
    first = add(lake, "a", [event()])
    wb.pin("evidence", hold_until=today())
    assert wb.pin("evidence", as_of="evidence", hold_until="2999-12-31").hold_until == FAR
    assert wb.pin("evidence", as_of="evidence", hold_until=today()).hold_until == FAR
    assert [(pin.snapshots["trades"], pin.held()) for pin in wb.pins()] == [(first, True)]
    add(lake, "b", [event(ts_event=at(1))], minute=1)
    for refused in (
        lambda: wb.unpin("evidence"),
        lambda: wb.untag("trades", "evidence"),
        lambda: wb.pin("evidence", move=True),
    ):
        with pytest.raises(InvalidParameter, match=r"is held until 2999-12-31\. It cannot be"):
            refused()
    with pytest.raises(InvalidParameter, match="is a pin"):
        wb.tag("trades", "evidence", move=True)
    with pytest.raises(InvalidParameter, match="is past"):
        wb.pin("late", hold_until="2014-03-10")
    with pytest.raises(InvalidParameter, match="hold_until"):
        wb.pin("late", hold_until="soon")


def test_a_hold_that_is_over_holds_nothing(lake: Lake, wb: Workbench) -> None:
    add(lake, "a", [event()])
    pin = wb.pin("evidence", ("trades",), hold_until=today())
    record = json.loads(lake.table("trades").properties[property_of("evidence")])
    over = {property_of("evidence"): json.dumps(record | {"hold_until": "2014-03-10"})}
    change(lake.table("trades"), properties=over)
    assert pin.held()
    assert [pin.held() for pin in wb.pins()] == [False]
    wb.unpin("evidence")
    assert wb.pins() == []


def test_a_rollback_is_undone_by_a_rollback(lake: Lake, wb: Workbench) -> None:
    first = add(lake, "a", [event()])
    second = add(lake, "b", [event(ts_event=at(1)), event(ts_event=at(2))], minute=1)
    wb.tag("trades", "eod", first)
    done = wb.rollback("trades", "eod")
    assert (done.before, done.after, done.rows_before, done.rows_after) == (second, first, 3, 1)
    assert (done.removed, done.returned, done.undo) == (("b.csv",), (), f"before-rollback-{second}")
    assert str(done).startswith(f"trades went from {second} (3 rows) to {first} (1 row) without b.csv; the state")
    assert count(wb) == 1
    again = wb.rollback("trades", done.undo)
    assert (again.after, again.removed, again.returned) == (second, (), ("b.csv",))
    assert count(wb) == 3
    nothing = wb.rollback("trades", second)
    assert (nothing.undo, "nothing changed" in str(nothing)) == (None, True)
    third = wb.rollback("trades", first)
    assert (third.undo, count(wb, third.undo)) == (done.undo, 3)


def test_what_is_written_after_a_rollback_is_not_lost_by_going_forward(lake: Lake, wb: Workbench) -> None:
    first = add(lake, "a", [event()])
    add(lake, "b", [event(ts_event=at(1))], minute=1)
    undo = wb.rollback("trades", first).undo
    third = add(lake, "c", [event(ts_event=at(2))], minute=2)
    with pytest.raises(InvalidParameter, match=f"Roll back to {first}, on which both are built"):
        wb.rollback("trades", undo)
    assert wb.rollback("trades", first).undo == f"before-rollback-{third}"
    wb.rollback("trades", undo)
    assert sorted(wb.trades().to_arrow()["source"].to_pylist()) == ["a", "b"]
    for unknown in (7, "nothing"):
        with pytest.raises(UnknownReference):
            wb.rollback("trades", unknown)
    with pytest.raises(UnknownReference, match="no snapshot"):
        wb.rollback("quotes", "before")


def test_a_rollback_does_not_overrun_another_writer(lake: Lake) -> None:
    """PyIceberg's own transaction checks one name of those that it changes; ours checks main as well as the tag."""
    first = add(lake, "a", [event()])
    second = add(lake, "b", [event(ts_event=at(1))], minute=1)
    stale = lake.table("trades")
    third = add(lake, "c", [event(ts_event=at(2))], minute=2)
    from pyiceberg.exceptions import CommitFailedException

    with pytest.raises(CommitFailedException):
        change(stale, {f"before-rollback-{second}": second}, main=first)
    assert lake.head("trades") == third
    from k2kernel.lake.rollback import roll

    with pytest.raises(CommitConflict, match="another writer has moved it"):
        roll(lake.table("trades"), "trades", second, first)


def test_a_file_loads_again_after_a_rollback(wb: Workbench) -> None:
    before, extra = Path("before.csv"), Path("extra.csv")
    before.write_text(ROWS)
    extra.write_text(ROWS.replace("2024-03-04", "2024-03-05") + "2024-03-05T00:00:02Z,BHP,XASX,4,12x,1,,\n")
    wb.ingest(before, "k2-trades")
    load = wb.ingest(extra, "k2-trades", max_rejects=0.5)
    assert load.rejected == 1
    assert "there already" in str(wb.ingest(extra, "k2-trades", max_rejects=0.5))
    done = wb.rollback("trades", wb.snapshots()[1].id)
    assert [Path(name).name for name in done.removed] == ["extra.csv"]
    assert count(wb) == 3
    wb.ingest(extra, "k2-trades", max_rejects=0.5)
    assert count(wb) == 6
    assert "there already" in str(wb.ingest(before, "k2-trades"))
    assert count(wb) == 6
    assert count(wb, done.undo) == 6
    assert count(wb, table="dead_letter") == 1


def _pin_some(home: str, name: str) -> None:
    bench = k2.connect(settings=Settings(home=Path(home)))
    for number in range(3):
        bench.pin(f"{name}{number}", ("trades", "quotes"), hold_until=FAR)


def test_several_processes_pin_at_once(lake: Lake, wb: Workbench) -> None:
    add(lake, "a", [event()])
    add(lake, "q", [event()], "quotes")
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_pin_some, args=(str(lake.settings.home), name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    found = wb.pins()
    assert sorted(pin.name for pin in found) == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert all(pin.complete and pin.hold_until == FAR for pin in found)


def test_the_command_line_names_states_and_goes_back(
    lake: Lake, wb: Workbench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(lake.settings.home))
    first = add(lake, "a", [event()])
    second = add(lake, "b", [event(ts_event=at(1))], minute=1)

    def table(*words: str) -> tuple[int, str, str]:
        return call(capsys, monkeypatch, main, "table", *words)

    assert table("tag", "trades", "eod", "--as-of", str(first))[1] == f"{first}\n"
    code, _, err = table("tag", "trades", "eod")
    assert (code, "--move" in err or "move=True" in err) == (2, True)
    assert table("tag", "trades", "eod", "--move")[1] == f"{second}\n"
    assert table("pin", "evidence", "-t", "trades", "--as-of", str(first), "--hold-until", "2999-12-31")[0] == 0
    found = json.loads(table("pins", "-o", "json")[1])
    assert [(row["name"], row["table"], row["snapshot_id"]) for row in found] == [("evidence", "trades", str(first))]
    assert (found[0]["hold_until"], found[0]["complete"]) == ("2999-12-31", True)
    assert table("unpin", "evidence")[0] == 2
    names = json.loads(table("tags", "trades", "-o", "json")[1])
    assert [(row["name"], row["kind"]) for row in names] == [("eod", "tag"), ("evidence", "pin")]
    code, out, err = table("rollback", "trades", "evidence")
    assert (code, out.startswith("trades went from")) == (0, True)
    assert f"k2 table rollback trades before-rollback-{second}" in err
    assert lake.head("trades") == first
    assert table("rollback", "trades", f"before-rollback-{second}")[0] == 0
    assert lake.head("trades") == second
    assert table("untag", "trades", "eod")[0] == 0
    assert table("pins")[1].splitlines()[0].split()[:3] == ["name", "table", "snapshot_id"]
