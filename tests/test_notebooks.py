"""The notebooks: their form, and that each runs in a lake of its own and asserts its claims."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbmake.nb_run import NotebookRun

from tests.support import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PUBLIC = {"k2kernel", "k2kernel.plots", "k2kernel.sample"}
LIMIT_S, MOST_LINES = 120, 12
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in nbformat.read(str(path), 4).cells if cell.cell_type == "code"]


def python(cell: NotebookNode) -> ast.Module:
    return ast.parse(TransformerManager().transform_cell(cell.source))


def test_the_stories_are_there() -> None:
    assert {"01_ingest", "02_query", "03_time_travel", "04_replay_backtest"} <= {path.stem for path in NOTEBOOKS}


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


@each_notebook
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / ".k2"))
    result = NotebookRun(path, LIMIT_S).execute()
    assert result.error is None, result.error.trace
    faults = [
        output for cell in result.nb.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert not faults


def test_a_claim_that_is_broken_fails_the_run(tmp_path: Path) -> None:
    book = nbformat.read(str(ROOT / "notebooks" / "01_ingest.ipynb"), 4)
    claim = next(cell for cell in book.cells if "(again.rows, again.duplicate) == (0," in cell.source)
    claim.source = claim.source.replace("== (0,", "== (1,")
    del book.cells[book.cells.index(claim) + 1 :]
    nbformat.write(book, str(tmp_path / "broken.ipynb"))
    error = NotebookRun(tmp_path / "broken.ipynb", LIMIT_S).execute().error
    assert error is not None
    assert "AssertionError" in error.trace
