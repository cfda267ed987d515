"""The command line: exact machine output, exit statuses, messages that say what to do."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import k2kernel as k2
from k2kernel.cli import ingest_main, main, query_main

ROWS = """\
ts_event,symbol,venue,sequence,price,size,side,conditions
2024-03-04T00:00:00.000001Z,BHP,XASX,1,44.105,100,buy,XT;LT
2024-03-04T00:00:01Z,BHP,XASX,2,44.1,0.5,sell,
2024-03-04T00:00:01Z,"O'NEIL; DROP TABLE trades",XASX,3,100,7,,X
"""


def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, door: Any, *words: str
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command run in this process."""
    monkeypatch.setattr(sys, "argv", ["k2", *words])
    with pytest.raises(SystemExit) as ended:
        door()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`cli(door, *words)` runs a command on the lake of an empty working directory."""
    return lambda door, *words: call(capsys, monkeypatch, door, *words)


@pytest.fixture
def loaded(cli: Any) -> Path:
    path = Path("trades.csv").absolute()
    path.write_text(ROWS)
    assert cli(main, "ingest", str(path), "-p", "k2-trades")[0] == 0
    return path


def test_a_read_where_there_is_no_lake_says_how_to_make_one(cli: Any, tmp_path: Path) -> None:
    code, out, err = cli(query_main, "trades")
    assert (code, out) == (2, "")
    assert err.startswith("k2: There is no lake at")
    assert "k2 ingest" in err
    assert err.count("\n") == 1
    assert not (tmp_path / ".k2").exists()


def test_ingest_says_what_it_did_and_the_second_time_that_it_was_there(cli: Any, loaded: Path) -> None:
    code, out, _ = cli(ingest_main, str(loaded), "--profile", "k2-trades")
    assert code == 0
    assert "trades: 3 there already" in out
    assert k2.connect().sql("SELECT count(*) AS n FROM trades").to_arrow()["n"].to_pylist() == [3]


def test_a_load_with_rejects_is_exit_0_and_says_how_many_on_stderr(cli: Any) -> None:
    Path("bad.csv").write_text(ROWS + "2024-03-04T00:00:02Z,BHP,XASX,4,12x,1,,\n")
    code, out, err = cli(main, "ingest", "bad.csv", "-p", "k2-trades", "--max-rejects", "0.5")
    assert code == 0
    assert "trades: 3 rows" in out
    assert "1 of 4 lines were rejected" in err
    code, out, _ = cli(query_main, "sql", "SELECT source_offset, reason, raw FROM dead_letter", "-o", "json")
    (letter,) = json.loads(out)
    assert letter["source_offset"] == 5
    assert letter["raw"] == "2024-03-04T00:00:02Z,BHP,XASX,4,12x,1,,"
    assert "price" in letter["reason"]
    assert "12x" in letter["reason"]


@pytest.mark.parametrize(
    ("content", "words", "say"),
    [
        (None, (), "No such file"),
        ("", (), "is empty"),
        ("a,b\n1,2\n", (), "has no column"),
        (ROWS.splitlines()[0] + "\n", (), "no row"),
        (ROWS + "x\n" * 3, (), "3 of 6 lines are rejected"),
        (ROWS, ("--symbol", "A", "--option", "nonsense"), "NAME=TEXT"),
        (ROWS, ("--option", "colour=red"), "no such option"),
        (ROWS, ("--max-rejects", "7"), "max_rejects"),
        (ROWS, ("--venue", "NOWHERE"), "NOWHERE"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_exit_2_one_sentence_and_no_row(
    cli: Any, content: str | None, words: tuple[str, ...], say: str
) -> None:
    if content is not None:
        Path("in.csv").write_text(content)
    code, out, err = cli(main, "ingest", "in.csv", "-p", "k2-trades", *words)
    assert (code, out) == (2, "")
    assert say in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert k2.connect().init().sql("SELECT count(*) AS n FROM trades_raw").to_arrow()["n"].to_pylist() == [0]
    assert not list(Path(".k2").rglob("*.parquet"))


def test_one_bad_file_among_good_ones(cli: Any, loaded: Path) -> None:
    Path("other.csv").write_text(ROWS.replace("BHP", "RIO"))
    code, out, err = cli(main, "ingest", "missing.csv", "other.csv", "-p", "k2-trades")
    assert code == 2
    assert "missing.csv" in err
    assert "other.csv: trades: 3 rows" in out


def test_json_and_csv_parse_back_to_the_same_rows_when_piped(loaded: Path) -> None:
    """Through a real pipe, 80 columns wide: nothing is wrapped or rounded."""
    texts = {}
    for output in ("json", "csv", "arrow", "parquet"):
        door = Path(sys.executable).with_name("k2-query")
        done = subprocess.run(
            [door, "trades", "-o", output], capture_output=True, check=True, env=os.environ | {"COLUMNS": "80"}
        )
        texts[output] = done.stdout
    from_json = json.loads(texts["json"])
    from_csv = list(csv.DictReader(io.StringIO(texts["csv"].decode())))
    arrow = pl.read_ipc_stream(io.BytesIO(texts["arrow"]))
    assert arrow.equals(pl.read_parquet(io.BytesIO(texts["parquet"])))
    assert len(from_json) == len(from_csv) == len(arrow) == 3
    for by_json, by_csv, row in zip(from_json, from_csv, arrow.to_dicts(), strict=True):
        assert list(by_json) == list(by_csv) == list(row)
        assert Decimal(by_json["price"]) == Decimal(by_csv["price"]) == row["price"]
        assert by_json["ts_event"] == by_csv["ts_event"] == f"{row['ts_event']:%Y-%m-%dT%H:%M:%S.%f}Z"
        assert by_json["conditions"] == row["conditions"] == [c for c in by_csv["conditions"].split(";") if c]
        assert by_json["symbol"] == by_csv["symbol"] == row["symbol"]
        assert (by_json["side"] or "") == by_csv["side"] == (row["side"] or "")


@pytest.mark.parametrize("output", ["json", "csv", "table", "arrow", "parquet"])
def test_no_rows_is_exit_0_and_still_has_its_columns(cli: Any, loaded: Path, output: str) -> None:
    if output in ("arrow", "parquet"):
        door = Path(sys.executable).with_name("k2-query")
        raw = subprocess.run(
            [door, "trades", "--session", "1999-01-04", "-o", output], capture_output=True, check=True
        ).stdout
        frame = pl.read_parquet(io.BytesIO(raw)) if output == "parquet" else pl.read_ipc_stream(io.BytesIO(raw))
        assert (len(frame), frame.columns[0]) == (0, "symbol")
        return
    code, out, _ = cli(query_main, "trades", "--session", "1999-01-04", "-o", output)
    assert code == 0
    assert {"json": out == "[]\n", "csv": out.startswith("symbol,venue,"), "table": out.startswith("ts_event")}[output]


@pytest.mark.parametrize("words", ["stream dead-letter list", "query hours XASX 2024-03-03", "table quality"])
def test_nothing_is_written_in_every_format(words: str, capsysbinary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    k2.connect().init()

    def written(output: str) -> Any:
        return call(capsysbinary, monkeypatch, main, *words.split(), "-o", output)[1]

    frames = [pl.read_csv(written("csv")), pl.read_ipc_stream(written("arrow")), pl.read_parquet(written("parquet"))]
    assert [len(frame) for frame in frames] == [0, 0, 0]
    assert frames[0].columns == frames[1].columns == frames[2].columns != []
    assert (written("json"), written("ndjson")) == (b"[]\n", b"")


def test_hostile_values_are_only_values(cli: Any, loaded: Path) -> None:
    hostile = "O'NEIL; DROP TABLE trades"
    code, out, _ = cli(query_main, "trades", "-s", hostile, "-o", "json")
    assert code == 0
    assert [row["symbol"] for row in json.loads(out)] == [hostile]
    code, _, err = cli(query_main, "trades", "-s", "' OR 1=1 --")
    assert code == 2
    assert "no symbol" in err
    code, out, _ = cli(
        query_main, "sql", "SELECT count(*) AS n FROM trades WHERE symbol = $s", "-P", f"s={hostile}", "-o", "json"
    )
    assert json.loads(out) == [{"n": 1}]


def test_as_of_answers_from_the_earlier_state(cli: Any, loaded: Path) -> None:
    first = k2.connect().snapshots("trades")[0].id
    Path("other.csv").write_text(ROWS.replace("BHP", "RIO"))
    cli(main, "ingest", "other.csv", "-p", "k2-trades")
    for words in (("--as-of", str(first)), ()):
        code, out, _ = cli(query_main, "sql", "SELECT count(*) AS n FROM trades", *words, "-o", "json")
        assert (code, json.loads(out)) == (0, [{"n": 3 if words else 6}])
    code, _, err = cli(query_main, "trades", "--as-of", "2024-03-04")
    assert code == 2
    assert "bare date" in err
    code, out, _ = cli(query_main, "snapshots", "-o", "json")
    assert [row["rows_total"] for row in json.loads(out)] == [6, 3]
    assert all(isinstance(row["id"], str) for row in json.loads(out))


def test_a_dry_run_shows_rows_and_rejects_and_writes_nothing(cli: Any) -> None:
    Path("in.csv").write_text(ROWS + "2024-03-04T00:00:02Z,BHP,XASX,4,12x,1,,\n")
    code, out, _ = cli(main, "ingest", "in.csv", "-p", "k2-trades", "--dry-run")
    assert code == 0
    assert "44.105" in out
    assert "12x" in out
    assert "would be rejected (1 of the first 4 lines)" in out
    assert not list(Path().rglob("*.parquet"))


def test_profiles_lists_describes_and_drafts(cli: Any) -> None:
    _, out, _ = cli(main, "profiles")
    assert {"asx-trades", "k2-quotes", "sse-trades"} <= {line.split()[0] for line in out.splitlines()}
    _, out, _ = cli(main, "profiles", "show", "asx-trades")
    assert "Sydney" in out
    Path("in.csv").write_text(ROWS)
    _, out, _ = cli(main, "profiles", "suggest", "in.csv")
    Path("mine.toml").write_text(out)
    code, out, err = cli(main, "ingest", "in.csv", "-p", "mine.toml")
    assert (code, "trades: 3 rows" in out) == (0, True), err
    code, _, err = cli(main, "profiles", "show", "nope")
    assert code == 2
    assert "asx-trades" in err


def test_doctor_says_what_is_there(cli: Any, loaded: Path) -> None:
    code, out, _ = cli(main, "doctor")
    assert code == 0
    assert "table trades" in out
    assert "3 rows" in out
    assert "K2_HOME" in out


@pytest.mark.parametrize("scheme", ["postgresql", "http"])
def test_secrets_are_never_shown(cli: Any, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("K2_CATALOG_URI", f"{scheme}://user:hunter2@127.0.0.1:1/k2")
    code, out, err = cli(main, "doctor")
    assert code == 1
    assert "FAIL" in out
    assert scheme in out
    assert "hunter2" not in out + err


def test_the_demonstration_ends_in_a_queryable_lake(cli: Any) -> None:
    code, out, err = cli(main, "demo")
    assert code == 0, err
    for part in ("Instruments", "minute by minute", "Time travel", "Next", "vwap"):
        assert part in out
    assert len(k2.connect().symbols().to_arrow()) == 12


def test_the_demonstration_on_real_ticks(cli: Any, shared_data: Path) -> None:
    code, out, err = cli(main, "demo", "--data", str(shared_data / "asx-2014-03"))
    assert code == 0, err
    assert "7078.csv as asx-trades: trades: 91,631 rows" in out
    assert "stock_splits.csv as asx-splits" in out
    assert k2.connect().summary("BHP", "2014-03-11").high == Decimal("36.45")


def test_looking_at_a_file_makes_no_lake(cli: Any) -> None:
    Path("in.csv").write_text(ROWS)
    assert cli(main, "ingest", "in.csv", "-p", "k2-trades", "--dry-run")[0] == 0
    assert k2.connect().guess("in.csv") == "k2-trades"
    assert not Path(".k2").exists()


def on_a_terminal(columns: int, *words: str) -> str:
    """What `k2` writes to a terminal of so many columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    program = [sys.executable, "-c", "from k2kernel.cli import main; main()", *words]
    given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(program, stdin=follower, stdout=follower, stderr=follower, env=given) as process:
        os.close(follower)
        found = b""
        with suppress(OSError):  # Linux says so where nothing more can come
            while piece := os.read(leader, 4096):
                found += piece
        process.wait()
    os.close(leader)
    return re.sub(r"\x1b\[[0-9;]*m", "", found.decode().replace("\r\n", "\n"))


def test_a_terminal_shows_the_columns_that_fit_and_says_which_do_not(loaded: Path) -> None:
    narrow, wide = (on_a_terminal(columns, "query", "bars", "BHP", "1d") for columns in (60, 300))
    assert max(map(len, narrow.splitlines()[:2])) <= 60
    assert "more columns than fit: " in narrow
    shown, hidden = narrow.splitlines()[0], narrow.partition("fit: ")[2].partition(";")[0]
    assert [*shown.split(), *hidden.replace(",", "").split()] == wide.splitlines()[0].split()
    assert "more columns" not in wide
