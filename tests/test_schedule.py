"""Schedules: when jobs are due, and that each is done once, retried at its states, made up for and told of."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import k2kernel as k2
from k2kernel import runs
from k2kernel.cli import main
from k2kernel.metrics import METRICS
from k2kernel.runs.plan import Times
from tests.query_lake import add, event
from tests.test_runs import write

WHEN = datetime(2024, 3, 29, 0, 0, tzinfo=UTC)
"""Good Friday: the ASX is closed until Tuesday, and Sydney's summer time ends on the 7th of April."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(when: str, zone: str = "UTC", count: int = 3, start: datetime = WHEN) -> list[datetime]:
    found = Times(runs.Job("job", when, zone, maintain="all"), Path())
    moments = [start]
    for _ in range(count):
        moments.append(found.after(moments[-1]))
    return moments[1:]


@pytest.mark.parametrize(
    ("when", "zone", "expected"),
    [
        ("30 18 * * *", "UTC", ["2024-03-29T18:30", "2024-03-30T18:30", "2024-03-31T18:30"]),
        ("0 12 * * 0", "UTC", ["2024-03-31T12:00", "2024-04-07T12:00", "2024-04-14T12:00"]),
        ("0 12 * * 1-5/2", "UTC", ["2024-03-29T12:00", "2024-04-01T12:00", "2024-04-03T12:00"]),
        ("0 9 * * sun", "Australia/Sydney", ["2024-03-30T22:00", "2024-04-06T23:00", "2024-04-13T23:00"]),
        ("0 17 1 * *", "America/New_York", ["2024-04-01T21:00", "2024-05-01T21:00", "2024-06-01T21:00"]),
        ("after XASX close", "UTC", ["2024-04-02T05:00", "2024-04-03T05:00", "2024-04-04T05:00"]),
        ("30m after XASX close", "UTC", ["2024-04-02T05:30", "2024-04-03T05:30", "2024-04-04T05:30"]),
        ("after XNYS close", "UTC", ["2024-04-01T20:00", "2024-04-02T20:00", "2024-04-03T20:00"]),
    ],
)
def test_times(when: str, zone: str, expected: list[str]) -> None:
    assert times(when, zone) == [at(each) for each in expected]


def test_a_time_is_of_the_session_that_closed() -> None:
    closes = Times(runs.Job("job", "1h after XNYS close", maintain="all"), Path())
    assert closes.session(at("2024-03-28T21:00")) == date(2024, 3, 28)
    clock = Times(runs.Job("job", "0 9 * * *", "Australia/Sydney", maintain="all"), Path())
    assert clock.session(at("2024-03-30T22:00")) == date(2024, 3, 31)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[a]\nwhen = "0 1 * * *"', "is not a job"),
        ('[a]\nwhen = "0 1 * * *"\nmaintain = "all"\nretry = 1', "Did you mean retries"),
        ('[a]\nwhen = "0 1 * * *"\nmaintain = "all"\ncatch_up = "some"', "is not known"),
        ('[a]\nwhen = "0 1 * * *"\nmaintain = "all"\nwebhook = "file:///x"', "is no address"),
        ('[a]\nwhen = "0 1 5 * 1"\nmaintain = "all"', "a day of the month and a weekday"),
        ('[a]\nwhen = "noon"\nmaintain = "all"', "is no time"),
        ('[a]\nwhen = "61 1 * * *"\nmaintain = "all"', "is no time"),
        ('[a]\nwhen = "0 1 * * *"\nzone = "Sydney"\nmaintain = "all"', "is no time zone"),
        ('[a]\nwhen = "after NOWHERE close"\nmaintain = "all"', "is not declared"),
        ('[a]\nwhen = "0 1 * * *"\nmaintain = true', 'is given as True. Give text, such as "all"'),
        ('[a]\nwhen = "0 1 * * *"\nmaintain = "all"\nretries = "2"', "is given as '2'. Give a whole number"),
        ('[a]\nwhen = "0 1 * * *"\nmaintain = "all"\nretries = -1', "is below 0. Give 0 for one attempt"),
        ('[a]\nwhen = "0 1 * * *"\nnotebook = "a.ipynb"\nparameters = "BHP"', "Give a table, such as"),
        ("a = 1", "is no table"),
        ("[a", "cannot be read"),
    ],
)
def test_what_is_no_schedule_says_why(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "schedules.toml").write_text(text)
    with pytest.raises(k2.K2Error, match=sentence):
        runs.Schedule(k2.connect(tmp_path / ".k2"), runs.load(tmp_path / "schedules.toml"))


def due(catch_up: str) -> runs.Job:
    return runs.Job("upkeep", "0 * * * *", maintain="trades", catch_up=catch_up)


@pytest.mark.parametrize(
    ("catch_up", "made_up"),
    [("last", ["03"]), ("all", ["01", "02", "03"]), ("none", [])],
)
def test_what_was_missed_is_made_up_for_by_the_rule(bench: k2.Workbench, catch_up: str, made_up: list[str]) -> None:
    def once(now: str) -> list[str]:
        return [str(done.due)[11:13] for done in runs.Schedule(bench, [due(catch_up)]).once(at(now))]

    assert once("2024-03-04T00:30") == [], "a new job has missed nothing"
    assert once("2024-03-04T03:30") == made_up
    assert once("2024-03-04T03:31") == [], "done once"
    assert once("2024-03-04T04:00:30") == ["04"]
    history = runs.history(bench)
    assert [str(done.due)[11:13] for done in history] == ["04", *reversed(made_up)]
    assert {done.notebook for done in history} == {"maintain trades"}


def test_the_last_turns_of_maintenance_are_kept_with_what_they_did(
    bench: k2.Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2kernel.runs.schedule._KEPT", 3)
    runs.Schedule(bench, [due("all")]).once(at("2024-03-04T00:30"))
    first, second = runs.Schedule(bench, [due("all")]).once(at("2024-03-04T02:30"))
    assert first.steps is not None
    assert "trades: compact: " in first.steps[0]
    assert second.steps == ()
    assert "maintain trades ok (0 changes in " in str(second)
    other = bench.settings.home / "runs" / "upkeep-20240101T000000000Z"
    other.mkdir()
    replace(first, folder=str(other), steps=None).save()
    runs.Schedule(bench, [due("all")]).once(at("2024-03-04T06:30"))
    assert [(done.due or "")[11:13] for done in runs.history(bench)[:3]] == ["06", "05", "04"]
    assert [Path(done.folder) for done in runs.history(bench)[3:]] == [other], "a run of a notebook is not thrown away"


class Hook(BaseHTTPRequestHandler):
    heard: ClassVar[list[dict[str, object]]] = []

    def do_POST(self) -> None:
        Hook.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.heard.clear()
    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/failed"
    server.shutdown()
    server.server_close()
    thread.join()


FAILS_ONCE = """\
from pathlib import Path
seen = Path("seen")
assert seen.exists() or seen.touch(), "not yet"
"""


def test_a_run_that_failed_is_run_again_at_the_same_states(bench: k2.Workbench, tmp_path: Path) -> None:
    path = write(tmp_path / "report.ipynb", FAILS_ONCE)
    job = runs.Job("daily", "0 * * * *", notebook=str(path), parameters={"symbol": "{session}"}, wait="1ms")

    def told(done: runs.Run) -> None:
        heard.append(done)
        add(bench.lake, str(done.attempt) * 64, [event(symbol="RIO")], minute=30)

    heard: list[runs.Run] = []
    schedule = runs.Schedule(bench, [job], told)
    schedule.once(at("2024-03-04T00:30"))
    first, second = schedule.once(at("2024-03-04T01:30"))
    assert (first.status, second.status) == ("failed", "ok")
    assert (first.attempt, second.attempt, second.job) == (1, 2, "daily")
    assert first.snapshots == second.snapshots != {}
    assert second.snapshots["trades"] != str(bench.at().states["trades"])
    assert second.parameters["symbol"] == "2024-03-04"
    assert heard == [first, second]


def failures() -> float:
    """The runs that this process has counted as failed."""
    return METRICS.runs.series.get(("failed",), [0.0])[0]


def test_a_failure_is_told_to_the_webhook(
    bench: k2.Workbench, tmp_path: Path, hook: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = f'[gone]\nwhen = "0 * * * *"\nnotebook = "gone.ipynb"\nretries = 1\nwait = "1ms"\nwebhook = "{hook}"'
    (tmp_path / "schedules.toml").write_text(jobs)
    words = ["k2", "schedule", str(tmp_path / "schedules.toml"), "--once", "--home", str(bench.settings.home)]
    state = bench.settings.home / "runs" / "schedule.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"gone": (datetime.now(UTC) - timedelta(hours=2)).isoformat()}))
    monkeypatch.setattr(sys, "argv", words)
    before = failures()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert failures() == before + 2, "each attempt is counted"
    (heard,) = Hook.heard
    assert heard["job"] == "gone"
    assert heard["attempt"] == 2
    assert "is no notebook" in str(heard["error"])
    monkeypatch.setattr(sys, "argv", ["k2", "run", "list", "-o", "json", "--home", str(bench.settings.home)])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main()
    assert [(line["job"], line["status"]) for line in json.loads(capsys.readouterr().out)] == [("gone", "failed")] * 2


def test_the_next_times_are_shown(
    bench: k2.Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = '[b]\nwhen = "0 5 1 1 *"\nmaintain = "all"\n[a]\nwhen = "after XNYS close"\nnotebook = "day.ipynb"'
    (tmp_path / "schedules.toml").write_text(jobs)
    monkeypatch.setattr(sys, "argv", ["k2", "schedule", "--show", "--home", str(bench.settings.home)])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines == sorted(lines)
    assert sum("05:00:00 UTC  b  maintain all" in line for line in lines) == 3
    assert sum(f"UTC  a  {tmp_path / 'day.ipynb'}" in line for line in lines) == 3


def test_a_schedule_does_each_job_when_it_is_due_and_stops(bench: k2.Workbench) -> None:
    heard: list[runs.Run] = []
    job = runs.Job("upkeep", "* * * * *", maintain="trades")

    def told(done: runs.Run) -> None:
        heard.append(done)
        with pytest.raises(k2.K2Error, match="Another schedule runs"):
            runs.Schedule(bench, [job]).once()
        schedule.stop()

    schedule = runs.Schedule(bench, [job], told)
    state = bench.settings.home / "runs" / "schedule.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"upkeep": (datetime.now(UTC) - timedelta(minutes=5)).isoformat()}))
    running = threading.Thread(target=schedule.run)
    running.start()
    running.join(30)
    assert [done.job for done in heard] == ["upkeep"]
    assert not running.is_alive()
