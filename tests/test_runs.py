"""Notebook runs: settled, recorded, repeated."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import k2kernel as k2
from k2kernel import runs
from k2kernel.cli import main
from tests.query_lake import add, event

PARAMETERS = 'symbol = "BHP"\nlimit = 3\nas_of = None'
READ = "import k2kernel as k2\nview = k2.connect().at(as_of)\nprint(symbol, limit, len(view.trades(symbol).to_arrow()))"
MAGIC = "%load_ext k2kernel\n%k2 at $as_of"
PICK = "from k2kernel import widgets\nwidgets.TimeTravel(view)"
ASK = "%k2sql SELECT symbol, count(*) AS n FROM trades WHERE symbol = $symbol GROUP BY ALL"


def write(path: Path, *cells: str) -> Path:
    made = [new_code_cell(cell) for cell in (PARAMETERS, *cells)]
    made[0]["metadata"]["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=made, metadata=kernel), str(path))
    return path


def test_a_run_is_recorded_and_gives_the_same_again_whatever_was_loaded_since(
    bench: k2.Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "report.ipynb", READ, MAGIC, ASK, PICK)
    done = runs.run(bench, path, {"symbol": "RIO", "limit": "7"}, as_of="eod")
    folder = Path(done.folder)
    kept = json.loads((folder / "run.json").read_text())
    assert (done.status, kept["parameters"]) == ("ok", {"symbol": "RIO", "limit": 7})
    assert kept["snapshots"]["trades"] == str(bench.sql("FROM trades", as_of="eod").snapshots["trades"])
    assert set(kept["snapshots"]) == {"trades", "quotes"}
    assert kept["packages"]["duckdb"].startswith("2.")
    assert "RIO 7 1" in json.dumps(nbformat.read(str(folder / "notebook.ipynb"), 4))
    page = (folder / "report.html").read_text()
    assert "RIO" in page
    assert "2 states (UTC)" in page, "a widget is its text where nobody can use it"
    assert "jupyter.widget-view" not in page

    add(bench.lake, "e" * 64, [event(symbol="RIO")], minute=20)
    again, found = runs.verify(bench, folder)
    assert (again.status, found, again.cells) == ("ok", [], done.cells)

    write(path, READ, MAGIC, ASK.replace("count(*)", "count(*) + 1"), PICK)
    monkeypatch.setattr(sys, "argv", ["k2", "run", "--verify", str(folder), "--home", str(bench.settings.home)])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 1
    assert "was changed since" in err
    assert "code cell 4 says something else" in err


def test_a_claim_that_fails_fails_the_run(
    bench: k2.Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "report.ipynb", READ, "assert limit < 3, 'too many'")
    words = ["run", str(path), "-p", "symbol=RIO", "--home", str(bench.settings.home), "--folder", "kept"]
    monkeypatch.setattr(sys, "argv", ["k2", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert out.strip() == str(Path("kept").absolute())
    assert "failed: AssertionError: too many" in err
    assert runs.Run.load(Path("kept")).status == "failed"
    assert (Path("kept") / "report.html").exists()

    add(bench.lake, "e" * 64, [event(symbol="RIO")], minute=20)
    write(path, READ, "assert limit == 3")
    monkeypatch.setattr(sys, "argv", ["k2", "run", "--again", "kept", "--home", str(bench.settings.home)])
    with pytest.raises(SystemExit) as ended:
        main()
    again = runs.Run.load(Path(capsys.readouterr().out.strip()))
    assert (ended.value.code, again.status) == (0, "ok")
    assert again.snapshots == runs.Run.load(Path("kept")).snapshots, "at the states of the run that failed"
    assert again.snapshots["trades"] != str(bench.at().states["trades"])


def test_what_a_notebook_does_not_declare_is_an_error(bench: k2.Workbench, tmp_path: Path) -> None:
    path = write(tmp_path / "report.ipynb", READ)
    with pytest.raises(k2.K2Error, match=r"symbl='BHP': is no parameter of the notebook. Did you mean symbol\?"):
        runs.run(bench, path, {"symbl": "BHP"})
    with pytest.raises(k2.K2Error, match="is no notebook"):
        runs.run(bench, tmp_path / "nosuch.ipynb")
    with pytest.raises(k2.K2Error, match="is no run"):
        runs.verify(bench, tmp_path)
    plain = tmp_path / "plain.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), str(plain))
    with pytest.raises(k2.K2Error, match="declares no parameter as_of"):
        runs.run(bench, plain)
