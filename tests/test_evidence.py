"""Evidence: an answer that can be asked again, traced to its lines, and in which a change is found."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from IPython.core.interactiveshell import InteractiveShell

import k2kernel as k2
from k2kernel.cli import main
from k2kernel.sample import generate
from k2kernel.workbench import Evidence
from k2kernel.workbench.evidence import _seal


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> k2.Workbench:
    folder = tmp_path_factory.mktemp("evidence")
    made = k2.connect(folder / ".k2")
    for file in generate(folder / "files", rows=2_000, sessions=2, symbols=3):
        made.ingest(file, made.guess(file) or "")
    return made


ASKED: dict[str, Callable[[k2.Workbench], k2.Result]] = {
    "trades": lambda wb: wb.trades("BHP", session="2024-03-05", limit=20),
    "no rows": lambda wb: wb.trades("BHP", session="1999-01-04"),
    "some columns": lambda wb: wb.quotes("BHP", start=date(2024, 3, 5), columns=["bid_px", "ask_px"]),
    "bars": lambda wb: wb.bars("BHP", "1h", session="2024-03-04"),
    "spreads": lambda wb: wb.spreads("BHP", session="2024-03-05"),
    "a view": lambda wb: wb.at("start").trades("BHP"),
    "sql": lambda wb: wb.sql(
        "SELECT * FROM trades_raw WHERE price > $p AND session = $d",
        {"p": Decimal("45.5"), "d": date(2024, 3, 5)},
    ),
    "sums": lambda wb: wb.sql("SELECT symbol, sum(size) FROM trades GROUP BY ALL ORDER BY ALL", as_of="start"),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_was_asked_is_found_unchanged_after_more_was_loaded(
    bench: k2.Workbench, name: str, tmp_path: Path
) -> None:
    if not bench.pins():
        bench.pin("start")
    result = ASKED[name](bench)
    kept = bench.evidence(result, tmp_path / "kept")
    more = generate(tmp_path / "more", rows=1_000, sessions=1, symbols=1, seed=len(name))[0]
    bench.ingest(more, "k2-trades")
    assert kept.faults(kept.seal) == []
    assert Evidence.open(bench, kept.folder).faults() == []
    assert pq.read_table(tmp_path / "kept" / "rows.parquet").equals(result.to_arrow())
    assert kept.rows == len(result.to_arrow())


def test_each_row_has_its_line(bench: k2.Workbench, tmp_path: Path) -> None:
    result = bench.trades("BHP", session="2024-03-05", columns=["trade_id", "price", "size"])
    kept = bench.evidence(result, tmp_path / "kept")
    lines = list(csv.DictReader((Path(kept.folder) / "lines.csv").read_text().splitlines()))
    assert len(lines) == kept.rows
    for line, row in zip(lines, result.to_arrow().to_pylist(), strict=True):
        content = Path(line["file"]).read_bytes()
        assert sha256(content).hexdigest() == line["source"]
        cells = dict(zip(content.decode().splitlines()[0].split(","), _line(content, int(line["line"])), strict=True))
        assert Decimal(cells["price"]) == row["price"]
        assert cells["trade_id"] == (row["trade_id"] or "")


def _line(content: bytes, number: int) -> list[str]:
    return content.decode().splitlines()[number - 1].split(",")


def _rows(folder: Path) -> None:
    text = (folder / "rows.csv").read_text()
    (folder / "rows.csv").write_text(text.replace("BHP", "RIO", 1))


def _facts(folder: Path) -> None:
    facts = json.loads((folder / "evidence.json").read_text())
    facts["made_at"] = "2020-01-01T00:00:00+00:00"
    (folder / "evidence.json").write_text(json.dumps(facts))


def _sealed_again(folder: Path) -> None:
    _rows(folder)
    facts = json.loads((folder / "evidence.json").read_text())
    facts["files"]["rows.csv"] = sha256((folder / "rows.csv").read_bytes()).hexdigest()
    facts["seal"] = _seal(facts)
    (folder / "evidence.json").write_text(json.dumps(facts))


def _lines_sealed_again(folder: Path) -> None:
    text = (folder / "lines.csv").read_text()
    (folder / "lines.csv").write_text(text.replace("trades-XASX", "trades-XNYS", 1))
    facts = json.loads((folder / "evidence.json").read_text())
    facts["files"]["lines.csv"] = sha256((folder / "lines.csv").read_bytes()).hexdigest()
    facts["seal"] = _seal(facts)
    (folder / "evidence.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_lines_sealed_again, "asked again, the rows are of other lines"),
        (_rows, "rows.csv was changed"),
        (_facts, "evidence.json was changed: it does not have its seal"),
        (_sealed_again, "asked again, the answer has other rows"),
        (lambda folder: (folder / "lines.csv").unlink(), "lines.csv is missing"),
        (lambda folder: (folder / "more.txt").touch(), "more.txt was not there"),
    ],
)
def test_a_change_is_found(bench: k2.Workbench, tmp_path: Path, change: Callable[[Path], None], fault: str) -> None:
    kept = bench.evidence(bench.trades("BHP", limit=5), tmp_path / "kept")
    copy = tmp_path / "copy"
    shutil.copytree(kept.folder, copy)
    for path in copy.iterdir():
        path.chmod(0o644)
    change(copy)
    found = Evidence.open(bench, copy).faults(kept.seal)
    assert fault in found
    if change is _sealed_again:
        assert any(each.startswith("its seal is") for each in found)


def test_the_command_line_checks_evidence(
    bench: k2.Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = bench.evidence(bench.bars("BHP", "1h", session="2024-03-04"), tmp_path / "kept")

    def checked() -> tuple[object, str, str]:
        words = ["k2", "run", "--verify", kept.folder, "--home", str(bench.settings.home)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    code, out, err = checked()
    assert (code, err) == (0, "")
    assert kept.seal in out
    (tmp_path / "kept" / "rows.csv").chmod(0o644)
    _rows(tmp_path / "kept")
    code, _, err = checked()
    assert code == 1
    assert "rows.csv was changed" in err


def test_an_answer_of_a_cell_is_evidence_too(bench: k2.Workbench, tmp_path: Path) -> None:
    shell = InteractiveShell()
    shell.user_ns |= {"wb": bench, "s": "BHP"}
    shell.run_line_magic("load_ext", "k2kernel")
    shell.run_cell_magic("k2sql", "--out kept", "SELECT source, source_offset, price FROM trades WHERE symbol = $s")
    assert bench.evidence(shell.user_ns["kept"], tmp_path / "kept").faults() == []


def test_what_cannot_be_evidence_says_why(bench: k2.Workbench, tmp_path: Path) -> None:
    joined = bench.asof(bench.trades("BHP"), bench.quotes("BHP"))
    with pytest.raises(k2.K2Error, match="is no answer of a read verb"):
        bench.evidence(joined)
    bench.evidence(bench.trades("BHP", limit=1), tmp_path / "once")
    with pytest.raises(k2.K2Error, match="exists already"):
        bench.evidence(bench.trades("BHP", limit=1), tmp_path / "once")
    with pytest.raises(k2.K2Error, match="is no evidence"):
        Evidence.open(bench, tmp_path)
