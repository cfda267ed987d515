"""The notebooks: their form, and that each runs in a lake of its own and asserts its claims."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from nbmake.nb_run import NotebookRun
from papermill import execute_notebook

import k2kernel as k2
from k2kernel import runs
from k2kernel.sample import generate
from tests.streams import Services, fresh_class
from tests.support import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PUBLIC = {"k2kernel", "k2kernel.plots", "k2kernel.sample", "k2kernel.widgets"}
STREAM = "05_streaming"
STORIES = (
    *("01_ingest", "02_query", "03_time_travel", "04_replay_backtest", STREAM, "06_market_microstructure"),
    *("07_data_quality", "08_surveillance_case", "daily_report"),
)
LIMIT_S, MOST_LINES = 120, 12
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in nbformat.read(str(path), 4).cells if cell.cell_type == "code"]


def python(cell: NotebookNode) -> ast.Module:
    return ast.parse(TransformerManager().transform_cell(cell.source))


def test_the_stories_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(STORIES)


@each_notebook
def test_a_notebook_is_stored_as_it_should_be(path: Path) -> None:
    cells = code_cells(path)
    assert cells[0].metadata["tags"] == ["parameters"]
    for cell in cells:
        assert not cell.outputs
        assert cell.execution_count is None
        assert len(cell.source.splitlines()) <= MOST_LINES
        assert "sys.path" not in cell.source
        assert not cell.source.lstrip().startswith(("!", "%%bash", "%%sh", "%pip"))


@each_notebook
def test_a_notebook_defines_no_function_and_uses_what_is_public(path: Path) -> None:
    for node in (node for cell in code_cells(path) for node in ast.walk(python(cell))):
        assert not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert all(name in PUBLIC for name in names if name.partition(".")[0] == "k2kernel"), names
        assert not (isinstance(node, ast.Attribute) and node.attr.startswith("_"))


@each_notebook
def test_a_notebook_asserts_and_draws(path: Path) -> None:
    nodes = [node for cell in code_cells(path) for node in ast.walk(python(cell))]
    assert any(isinstance(node, ast.Assert) for node in nodes)
    assert any(isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "plots" for node in nodes)


def in_one_kernel(paths: list[Path], folder: Path, given: str = "") -> Path:
    """One notebook with the cells of all, each of which finds nothing of the one before, and a lake of its own.

    `given` is code that runs after the parameters of each.
    """
    cells = []
    for number, path in enumerate(paths):
        home = f"%reset -f\nimport os\nos.environ['K2_HOME'] = {str(folder / path.stem / '.k2')!r}"
        cells.append(new_code_cell(f"# {path.stem}\n{home}", id=f"begin-{number}"))
        title, parameters, *rest = nbformat.read(str(path), 4).cells
        cells += [title, parameters, new_code_cell(given, id=f"given-{number}"), *rest]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), str(folder / "all.ipynb"))
    return folder / "all.ipynb"


@pytest.mark.timeout(600)
def test_every_notebook_runs(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    result = NotebookRun(in_one_kernel(NOTEBOOKS, tmp_path), LIMIT_S).execute()
    assert result.error is None, result.error.trace
    faults = [
        output for cell in result.nb.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert not faults
    assert all(cell.execution_count for cell in result.nb.cells if cell.cell_type == "code" and cell.source)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("symbol", "venue"), [("IBM", "XNYS"), ("BTCUSDT", "BINANCE")])
def test_the_stories_are_true_of_other_instruments(
    symbol: str, venue: str, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    book = in_one_kernel(NOTEBOOKS, tmp_path, f"symbol, venue = {symbol!r}, {venue!r}")
    error = NotebookRun(book, LIMIT_S).execute().error
    assert error is None, error.trace


@pytest.mark.long
def test_from_a_file_to_a_topic_to_a_table_to_a_replay(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**services.environment, "K2_HOME": str(tmp_path / ".k2")}.items():
        monkeypatch.setenv(name, value)
    given = {"rows": 3_000, "venue": "XNYS", "partitions": 2, "asset_class": fresh_class()}
    path = ROOT / "notebooks" / f"{STREAM}.ipynb"
    execute_notebook(path, tmp_path / "out.ipynb", given, progress_bar=False, kernel_name="python3")
    bench = k2.connect(tmp_path / ".k2")
    assert bench.sql("SELECT DISTINCT venue FROM trades").to_polars()["venue"].to_list() == ["XNYS"]
    assert bench.audit().ok


@pytest.mark.long
def test_a_day_is_reported_with_other_parameters_at_a_state_of_then(tmp_path: Path) -> None:
    bench = k2.connect(tmp_path / ".k2")
    for file in generate(tmp_path / "files", rows=6_000, sessions=1, symbols=6):
        bench.ingest(file, bench.guess(file) or "")
    bench.pin("eod")
    for file in generate(tmp_path / "more", rows=2_000, sessions=1, symbols=6, seed=9):
        bench.ingest(file, bench.guess(file) or "")
    symbol = bench.sql("SELECT max(symbol) AS last FROM trades WHERE venue = 'XASX'").to_polars()["last"][0]
    assert symbol != "BHP"
    given = {"symbol": symbol, "session": "2024-03-04"}
    done = runs.run(bench, ROOT / "notebooks" / "daily_report.ipynb", given, as_of="eod")
    assert done.status == "ok", done.error
    assert done.snapshots["trades"] == str(bench.at("eod").states["trades"])
    rows = bench.trades(symbol, session="2024-03-04", as_of="eod").count()
    assert f"{rows:,} trades, digest" in (Path(done.folder) / "report.html").read_text()


def test_a_claim_that_is_broken_fails_the_run(tmp_path: Path) -> None:
    book = nbformat.read(str(ROOT / "notebooks" / "01_ingest.ipynb"), 4)
    claim = next(cell for cell in book.cells if "(again.rows, again.duplicate) == (0," in cell.source)
    claim.source = claim.source.replace("== (0,", "== (1,")
    del book.cells[book.cells.index(claim) + 1 :]
    nbformat.write(book, str(tmp_path / "broken.ipynb"))
    error = NotebookRun(tmp_path / "broken.ipynb", LIMIT_S).execute().error
    assert error is not None
    assert "AssertionError" in error.trace
