"""The magics in a real kernel: stopped by an interrupt, told in one sentence, with their provenance."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2kernel.config import Settings
from tests.doors import lake_of_doors
from tests.kernels import Kernel, Ran, kernel

ENDLESS = "SELECT sum(hash(a.range * b.range) % 7) AS s FROM range(4000000) a, range(4000000) b"
"""Takes hours."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with the magics, beside the lake of the doors."""
    folder: Path = tmp_path_factory.mktemp("kernel")
    lake_of_doors(Settings(home=folder / ".k2"))
    with kernel(folder) as running:
        assert running.run("%load_ext k2kernel\n%k2sql SELECT 1").status == "ok"
        yield running


def interrupted(cells: Kernel, cell: str) -> Ran:
    """What a cell shows that is interrupted; it ends at once, with one line of traceback."""
    message = cells.start(cell)
    time.sleep(2)
    asked = cells.interrupt()
    ran = cells.finish(message)
    assert time.monotonic() - asked < 1
    assert len(ran.traceback) == 1
    return ran


def test_an_interrupt_stops_a_replay(cells: Kernel) -> None:
    ran = interrupted(cells, "%k2 replay RIO --speed 0.001")
    assert ran.error.startswith("QueryCancelled: It was interrupted")


@pytest.mark.parametrize("cell", [f"%%k2sql\n{ENDLESS}", f"df = %k2sql --to polars {ENDLESS}"])
def test_an_interrupt_stops_the_query_and_the_next_cell_works(cells: Kernel, cell: str) -> None:
    ran = interrupted(cells, cell)
    assert ran.error.startswith("QueryCancelled: The query was interrupted")
    assert "interrupt the kernel to stop it" in ran.plain, "its progress was shown"
    after = cells.run("%k2sql SELECT count(*) AS n FROM trades WHERE symbol = 'RIO'")
    assert after.status == "ok"
    assert "31" in after.plain


def test_an_error_of_ours_in_python_shows_the_readers_lines_and_the_sentence(cells: Kernel) -> None:
    ran = cells.run("import k2kernel as k2\ndef mine():\n    return k2.connect().trades('NOPE').to_polars()\nmine()")
    shown = "\n".join(ran.traceback)
    assert ran.error.startswith("UnknownSymbol: ")
    assert "mine()" in shown
    assert "trades('NOPE')" in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "k2kernel/workbench" not in shown
    wrong = cells.run("k2.connect().sql('SELECT nothing FROM trades').to_polars()")
    assert wrong.error.startswith("QueryError: ")
    assert "BinderException" not in "\n".join(wrong.traceback), "what DuckDB raised is said once"
    theirs = cells.run("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError from e")
    assert "ZeroDivisionError" in "\n".join(theirs.traceback), "errors that are not ours are shown as ever"


def test_the_output_carries_its_provenance(cells: Kernel) -> None:
    cells.run("name = 'BHP'; other = 'never sent'")
    ran = cells.run("%%k2sql --as-of eod\nSELECT * FROM trades WHERE symbol = $name")
    metadata = ran.outputs[-1]["metadata"]["k2"]
    assert metadata["sql"] == "SELECT * FROM trades WHERE symbol = $name"
    assert metadata["params"] == {"name": "BHP"}
    assert (metadata["rows"], metadata["as_of"]) == (3, "eod")
    assert metadata["snapshots"]["trades"].isdigit()
    assert [(each["table"], each["files"]) for each in metadata["files"]] == [("trades", 1)]
    assert "never sent" not in json.dumps(metadata)
    assert "3 rows in" in ran.html
    assert metadata["snapshots"]["trades"] in ran.html


def test_an_answer_that_goes_into_a_variable_shows_its_caption_and_provenance(cells: Kernel) -> None:
    ran = cells.run("%%k2sql --out frame --to polars\nSELECT symbol, size FROM trades ORDER BY size")
    assert ran.outputs[-1]["metadata"]["k2"]["rows"] == 34
    assert "<table" not in ran.html
    assert "DataFrame'> 34" in cells.run("print(type(frame), len(frame))").stream


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("%k2sql FROM trade", "SqlRefused: There is no table 'trade'. Did you mean trades"),
        ("%k2sql --asof eod FROM trades", "QueryError: There is no option --asof. Did you mean --as-of?"),
        ("%k2sql SELECT prise FROM trades", 'Candidate bindings: "price"'),
        ("%k2sql SELECT $nam", "$nam has no value. Did you mean name?"),
        ("%k2sql --as-of nosuch FROM trades", "as_of='nosuch' names no snapshot, tag, branch or pin of trades"),
        ("%k2 snapshot", "There is no %k2 snapshot. Did you mean snapshots?"),
        ("%k2sql --limit few FROM trades", "limit='few': is no whole number. Write --limit ROWS"),
        (
            "%k2sql --to panda FROM trades",
            "to='panda': is not known. Did you mean pandas? Use one of: polars, pandas, arrow, duckdb",
        ),
        ("%k2sql --engine spark FROM trades", "spark_url: is not set"),
        ("%k2 stream sinks", "stream='sinks': is not known. Did you mean sink? Use one of: status, audit, sink"),
        ("%k2 stream sink --max-messages few", "max_messages='few': is no whole number"),
        ("%k2sql --with nosuch FROM nosuch", "There is no saved query 'nosuch'"),
        ("%k2 replay BHQ", "There is no symbol 'BHQ' in the lake. Did you mean BHP?"),
        ("%k2sql DROP TABLE trades", "DROP is not allowed"),
        ("%k2sql", "There is no statement"),
        ("%k2 tag trades", "Write %k2 tag TABLE NAME"),
        ("%k2 ingest nosuch.csv --profile k2-trades", "nosuch.csv"),
    ],
)
def test_an_error_is_one_sentence_without_a_traceback(cells: Kernel, cell: str, sentence: str) -> None:
    cells.run("name = 'BHP'")
    ran = cells.run(cell)
    assert ran.status == "error"
    assert sentence in ran.error
    assert len(ran.traceback) == 1
    assert "Traceback" not in ran.traceback[0]
    assert "File" not in ran.traceback[0].replace("FileFault", "")


@pytest.mark.parametrize(
    ("code", "offered"),
    [
        ("%k2 sn", {"snapshots"}),
        ("%k2 diff tr", {"trades"}),
        ("%k2 at e", {"eod"}),
        ("%k2 replay B", {"BHP"}),
        ("%k2 stream ", {"status", "audit", "sink"}),
        ("%k2 ingest x.csv --profile asx-t", {"asx-trades"}),
        ("%%k2sql --a", {"--as-of"}),
        ("%%k2sql --to p", {"pandas", "polars"}),
        ("%%k2sql --as-of e", {"eod"}),
        ("%%k2sql\nSELECT pri", {"price"}),
        ("%%k2sql\nSELECT * FROM trades WHERE symbol = 'R", {"RIO"}),
        ("%%k2sql\nSELECT * FROM trades WHERE symbol IN ('BHP', 'R", {"RIO"}),
        ("%%k2sql\nFROM trades FOR VERSION AS OF 'e", {"eod"}),
        ("x = %k2sql SELECT count(*) FROM dead", {"dead_letter"}),
        ("%k2sql SELECT t.bid_p", {"t.bid_px"}),
        ("%k2sql SELECT $a_var", {"a_variable"}),
    ],
)
def test_tab_offers_what_may_stand_there(cells: Kernel, code: str, offered: set[str]) -> None:
    cells.run("a_variable = 1")
    assert offered <= set(cells.completions(code))


def test_help_names_every_option_and_command(cells: Kernel) -> None:
    from k2kernel.magics import commands, sql

    shown = [cells.run(f"print(get_ipython().find_line_magic('{name}').__doc__)").stream for name in ("k2sql", "k2")]
    assert all(f"--{option.name}" in shown[0] for option in sql.OPTIONS)
    assert all(f"%k2 {name}" in shown[1] for name in commands.COMMANDS)


def test_the_extension_loads_again(cells: Kernel) -> None:
    assert cells.run("%reload_ext k2kernel").status == "ok"
    assert cells.completions("%k2 sn") == ["snapshots"]


def shown(cells: Kernel, code: str) -> str:
    """The text of a cell that must not fail."""
    ran = cells.run(code)
    assert ran.status == "ok", ran.error
    return ran.plain + ran.stream


def test_named_queries_build_on_each_other(cells: Kernel) -> None:
    shown(cells, "floor = 100")
    shown(cells, "%%k2sql --save large\nSELECT * FROM trades WHERE size > $floor;")
    shown(cells, "%%k2sql --with large --save rio\nSELECT * FROM large WHERE symbol = 'RIO' -- only RIO")
    assert "\n31\n" in shown(cells, "%k2sql --with rio SELECT count(*) AS n FROM rio")
    assert "\n1\n" in shown(cells, "%%k2sql --with rio\nWITH one AS (FROM rio LIMIT 1) SELECT count(*) AS n FROM one")
    counted = (
        "WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 4) SELECT max(n) AS n FROM up, rio"
    )
    assert "\n4\n" in shown(cells, f"%%k2sql --with rio\n{counted}")
    assert "rio" in shown(cells, "%k2 status")
    assert "is a table" in cells.run("%k2sql --save trades SELECT 1").error


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("--params s=RIO", "RIO"),
        ('--params {"s": "it\'s"}', "it's"),
        ("--params values", "from a dict"),
        ("--params s=$other", "of another name"),
        ("--params s='$other'", "$other"),
        ("", "of the notebook"),
        ('--params "s=\'; DROP TABLE trades; --"', "'; DROP TABLE trades; --"),
    ],
)
def test_values_come_from_params_or_else_from_variables(cells: Kernel, given: str, value: str) -> None:
    shown(cells, "s, other = 'of the notebook', 'of another name'; values = {'s': 'from a dict', 'unused': object()}")
    assert f"\n{value}\n" in shown(cells, f"%%k2sql {given}\nSELECT $s AS s")


def test_a_value_of_numpy_or_of_a_local_variable_is_bound(cells: Kernel) -> None:
    code = "import numpy as np\nn, many = np.int64(7), np.array([1, 2])\n%k2sql SELECT $n + len($many) AS n"
    assert "\n9\n" in shown(cells, code)
    local = "def ask(inner):\n    %k2sql --out found --to arrow SELECT $inner AS n\nask(41)\nprint(found['n'])"
    assert "41" in shown(cells, local)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("polars", "polars"), ("pandas", "pandas"), ("arrow", "pyarrow"), ("duckdb", "duckdb")],
)
def test_answers_as_frames(cells: Kernel, kind: str, name: str) -> None:
    shown(cells, f"%%k2sql --out made --to {kind} --limit 2\nFROM trades")
    assert name in shown(cells, "print(type(made).__module__)")
    assert shown(cells, "print(made.shape)").strip().startswith("(2, ") or kind == "pyarrow"


def test_the_verbs_on_one_line(cells: Kernel) -> None:
    count = "%k2sql SELECT count(*) AS n FROM trades"
    assert "\n34\n" in shown(cells, count)
    assert "View(" in shown(cells, "%k2 at eod")
    assert "\n4\n" in shown(cells, count)
    assert "Workbench(" in shown(cells, "%k2 at now")
    assert "RIO" in shown(cells, "%k2 symbols")
    assert "2014-03-10" in shown(cells, "%k2 sessions --as-of eod")
    assert "rows_added" in cells.run("%k2 snapshots").html
    assert shown(cells, "%k2 tag trades now --move").strip().isdigit()
    assert "evening" in shown(cells, "%k2 pin evening")
    assert "32 rows added" in shown(cells, "%k2 diff trades eod")
    assert "completed" in shown(cells, "%k2 replay RIO --session 2014-03-10 --digest")
    assert "Replay(ready" in shown(cells, "%k2 replay RIO --out history\nhistory")


def test_a_load_shows_its_progress(cells: Kernel) -> None:
    header, row = "ts_event,symbol,venue,price,size", "2014-03-12T01:00:00Z,BHP,XASX,1,1"
    shown(cells, f"open('more.csv', 'w').write({header!r} + chr(10) + {row!r} + chr(10))")
    ran = cells.run("%k2 ingest more.csv --profile k2-trades")
    assert ran.status == "ok", ran.error
    assert any("application/vnd.jupyter.widget-view+json" in output["data"] for output in ran.outputs)
    assert "loading more.csv" in ran.plain
    assert "trades: 1 row" in ran.html
    shown(cells, "import k2kernel\nbench = k2kernel.connect()\nbench.rollback('trades', bench.snapshots()[1].id)")


def test_a_view_called_wb_is_what_is_read(cells: Kernel) -> None:
    shown(cells, "import k2kernel\nwb = k2kernel.connect().at('eod')")
    assert "\n4\n" in shown(cells, "%k2sql SELECT count(*) AS n FROM trades")
    shown(cells, "wb = k2kernel.connect()")


def test_a_plan_says_which_files_are_left_out(cells: Kernel) -> None:
    text = shown(cells, "%%k2sql --explain\nFROM trades WHERE session = '2014-03-11'")
    assert "1 of 3 files" in text
    assert "2 (" in text


def test_an_answer_of_bars_says_what_was_read(cells: Kernel) -> None:
    ran = cells.run("%k2sql SELECT ts_open, close FROM bars('RIO', '1h', session => '2014-03-11', eligible => 'all')")
    assert "1 of 3 files" in ran.html
    assert ran.outputs[-1]["metadata"]["k2"]["files"][0]["files_pruned"] == 2


def test_times_are_of_the_venue_or_of_the_zone_that_is_asked_for(cells: Kernel) -> None:
    ask = "SELECT min(ts_event) AS first FROM trades"
    assert "first (Australia/Sydney)" in shown(cells, f"%k2sql {ask}")
    assert "2014-03-09 23:00:00.000" in shown(cells, f"%k2sql --tz UTC {ask}")
    assert "tz='Sydney': is no time zone" in cells.run(f"%k2sql --tz Sydney {ask}").error


def test_the_place_of_a_mistake_is_pointed_at(cells: Kernel) -> None:
    picture = cells.run("%k2sql SELECT * FROM trades WHERE symbol == = 1").traceback[0].splitlines()
    at = next(n for n, line in enumerate(picture) if line.strip() == "^")
    assert picture[at - 1][picture[at].index("^")] == "="


def test_a_plot_of_an_answer(cells: Kernel) -> None:
    ran = cells.run("%%k2sql --plot line\nSELECT ts_event, size FROM trades ORDER BY ts_event")
    assert ran.status == "ok", ran.error
    assert "application/vnd.holoviews_exec.v0+json" in ran.outputs[-1]["data"]


OVERHEAD = """\
import statistics, time
import k2kernel
shell, bench = get_ipython(), k2kernel.connect()
text = "SELECT symbol, count(*) AS n FROM trades GROUP BY ALL ORDER BY ALL"

def took(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

ways = (lambda: bench.sql(text).to_arrow(),
        lambda: shell.display_formatter.format(shell.run_cell_magic("k2sql", "", text)))
pairs = [[took(way) for way in ways] for _ in range(25)][4:]
print(statistics.median(magic - call for call, magic in pairs))
"""


@pytest.mark.alone
def test_a_magic_adds_at_most_20_ms_to_the_call_its_display_included(cells: Kernel) -> None:
    tries = 0
    while (added := float(cells.run(OVERHEAD).stream)) > 0.020 and tries < 2:
        tries += 1
    assert added <= 0.020


LOAD = """\
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
began = time.perf_counter()
shell.run_line_magic("load_ext", "k2kernel")
print(time.perf_counter() - began)
"""
IMPORT = "import time\nbegan = time.perf_counter()\nimport pyiceberg.catalog.sql\nprint(time.perf_counter() - began)"


@pytest.mark.alone
def test_loading_the_extension_takes_at_most_1_2_imports_of_the_catalog() -> None:
    def seconds(code: str) -> float:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    seconds(LOAD), seconds(IMPORT)
    pairs = [(seconds(LOAD), seconds(IMPORT)) for _ in range(3)]
    assert statistics.median(ours for ours, _ in pairs) <= 1.2 * statistics.median(theirs for _, theirs in pairs)
