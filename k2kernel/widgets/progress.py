"""How far a load is."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Self

from k2kernel.ingest.progress import amount
from k2kernel.widgets.page import OnPage, ipywidgets


class IngestProgress(OnPage):
    """A bar for each pass over a file: `with IngestProgress() as bar: wb.ingest(…, progress=bar)`.

    It shows itself where the `with` begins.
    """

    def __init__(self) -> None:
        self._bars: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._done: dict[tuple[str, str], tuple[int, int]] = {}
        self._handle: Any = None
        self.box = ipywidgets().VBox([]).add_class("k2-progress")

    @property
    def text(self) -> str:
        """Each pass, and how much of it is done."""
        lines = (
            f"{phase} {PurePath(file).name}: {amount(phase, done, 0)}"
            for (file, phase), (done, _) in self._done.items()
        )
        return "\n".join(lines) or "nothing loaded"

    def __enter__(self) -> Self:
        from IPython.display import display

        self._handle = display(self, display_id=True)
        return self

    def __exit__(self, *raised: object) -> None:
        for bar, _ in self._bars.values():
            bar.bar_style = "success" if raised[0] is None else "danger"
        if self._handle is not None:  # outside of a notebook there is nothing to show it
            self._handle.update(self)

    def __call__(self, file: str, phase: str, nbytes: int, total: int) -> None:
        """Move the bar of (`file`, `phase`) on by `nbytes`."""
        key = (file, phase)
        done = self._done.get(key, (0, 0))[0] + nbytes
        self._done[key] = (done, total)
        bar, said = self._bars.get(key) or self._add(key, total)
        if total:
            bar.value = done / total
        said.value = amount(phase, done, total)

    def _add(self, key: tuple[str, str], total: int) -> tuple[Any, Any]:
        w = ipywidgets()
        file, phase = key
        bar = w.FloatProgress(value=0.0, max=1.0, bar_style="info" if total else "warning")
        said = w.Label()
        name = w.Label(f"{phase} {PurePath(file).name}", layout=w.Layout(width="260px"))
        self._bars[key] = (bar, said)
        self.box.children = (*self.box.children, w.HBox([name, bar, said]))
        return bar, said
