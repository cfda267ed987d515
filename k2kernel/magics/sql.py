"""`%k2sql` and `%%k2sql`: one statement, run and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

from k2kernel import words
from k2kernel.errors import SqlRefused
from k2kernel.magics.answer import SHOWN, Answer
from k2kernel.magics.notebook import Notebook
from k2kernel.magics.options import WHEN, Option, identifier, leading, variable

if TYPE_CHECKING:
    from k2kernel.query import Result
    from k2kernel.query.connection import Told

OPTIONS = (
    *WHEN,
    Option("out", "NAME", "put the answer into a variable instead of showing its rows"),
    Option("to", "KIND", "the answer as a frame or relation", ("polars", "pandas", "arrow", "duckdb")),
    Option("limit", "ROWS", "first rows only", kind=int),
    Option("params", "VALUES", f"{words.PARAMS}: NAME=TEXT, NAME=$name, a JSON object, or a dict's name", many=True),
    Option("tz", "ZONE", "show times in a zone, such as UTC; default: the venue's where rows are of one, else UTC"),
    Option("explain", "", "show the plan, files and bytes scanned and pruned; nothing runs"),
    Option("save", "NAME", "keep the statement as a named query"),
    Option("with", "NAME", "a named query to select from, as a common table expression", many=True, completes="saved"),
    Option("plot", "CHART", "draw the answer", ("line", "candle", "bar", "scatter", "hist")),
    Option("engine", "ENGINE", words.ENGINE, ("duckdb", "spark")),
)

_SLOW_S = 0.5
"""A statement that takes longer shows its progress."""


def run(notebook: Notebook, line: str, cell: str | None, scope: Mapping[str, Any]) -> object:
    """Run the statement behind the options, and return what the cell shows."""
    given = leading(line, OPTIONS)
    options = given.options
    text = "\n".join(part.strip() for part in (given.rest, cell) if part and part.strip())
    if not text:
        raise SqlRefused("There is no statement", "Write one SELECT; %k2sql? lists the options")
    result, asked = _planned(notebook, text, options, scope)
    if "save" in options:
        notebook.save(options["save"], text, options.get("with", ()))
    if "explain" in options:
        return Plan(result.explain())
    return _shown(notebook, result, options, asked)


def _planned(
    notebook: Notebook, text: str, options: Mapping[str, Any], scope: Mapping[str, Any]
) -> tuple[Result, dict[str, Any]]:
    """The pinned result, and what was asked for as the output's metadata has it."""
    statement = notebook.composed(text, options.get("with", ()))
    params = notebook.parameters(statement, options.get("params", ()), scope)
    when = {
        word: variable(options[word], scope) for word in ("as-of", "known-at", "clock", "engine") if word in options
    }
    given = {word.replace("-", "_"): value for word, value in when.items()}
    result = notebook.reader(given.get("as_of")).sql(statement, params, **given)
    asked = {"sql": statement, "params": {name: str(value) for name, value in params.items()}}
    asked |= {name: str(value) for name, value in given.items()}
    if "tz" in options:
        result = result.tz(options["tz"])
    return result, asked | {"asked_at": datetime.now(UTC).isoformat(timespec="seconds")}


def _shown(notebook: Notebook, result: Result, options: Mapping[str, Any], asked: dict[str, Any]) -> object:
    out, to, chart = (options.get(name) for name in ("out", "to", "plot"))
    out = None if out is None else identifier("out", out)
    limit = words.parse_limit(options.get("limit"))
    keep = any(each is not None for each in (limit, out, to, chart))
    with Progress(notebook) as progress:
        answer = fetched(result, limit, keep, progress, asked)
    value = answer if to is None else getattr(answer, f"to_{to}")()
    if out is not None:
        notebook.shell.user_ns[out] = value
    if out is None and to is None and chart is None:
        return value
    _publish(answer)
    if chart is not None:
        from k2kernel.plots import chart as draw

        return draw(answer, chart)
    return None if out is not None else value


def fetched(result: Result, limit: int | None, keep: bool, progress: Told, asked: dict[str, Any]) -> Answer:
    """Run a result once. Its rows are kept in memory where `keep`, else only those that are shown."""
    import pyarrow as pa

    started, rows, kept = perf_counter(), 0, []
    for batch in result.batches(limit=limit, progress=progress):
        if keep or rows <= SHOWN:
            kept.append(batch)
        rows += batch.num_rows
    seconds = perf_counter() - started
    first = result.over(pa.Table.from_batches(kept))
    return Answer(first if keep else result, first, rows, seconds, asked)


def _publish(answer: Answer) -> None:
    from IPython.display import display

    display(answer.summary(), raw=True, metadata=answer.metadata)


class Progress:
    """Shows the share of a statement that is done, once it is slow."""

    def __init__(self, notebook: Notebook) -> None:
        self._in_kernel = getattr(notebook.shell, "kernel", None) is not None
        self._started, self._handle = perf_counter(), None

    def __call__(self, share: float) -> None:
        """Hear of it."""
        spent = perf_counter() - self._started
        if self._in_kernel and spent > _SLOW_S:
            self._say(f"{share:.0%} in {spent:.0f} s; interrupt the kernel to stop it")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._say("")

    def _say(self, text: str) -> None:
        from IPython.display import display

        data = {"text/plain": text}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


@dataclass(frozen=True)
class Plan:
    """How a statement would be run, as text."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        style = "font-family:var(--jp-code-font-family,monospace);line-height:1.2;white-space:pre;overflow-x:auto"
        return f'<pre style="{style}">{escape(self.text)}</pre>'
