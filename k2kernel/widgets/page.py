"""What the widgets share: how they show themselves, with a page and without one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from k2kernel.errors import extra

STYLE = "font-family:var(--jp-code-font-family,monospace);font-size:12px;line-height:1.5"


class OnPage(ABC):
    """A box of widgets. A notebook that is run without a page, as by papermill, shows its `text` instead."""

    box: Any

    @property
    @abstractmethod
    def text(self) -> str:
        """What it is of, in words."""

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {**self.box._repr_mimebundle_(), "text/plain": self.text}


def button(icon: str, tip: str, work: Callable[..., object], *given: object) -> Any:
    """A small button that does some work with what is given."""
    w = ipywidgets()
    made = w.Button(icon=icon, tooltip=tip, layout=w.Layout(width="40px"))
    made.on_click(lambda _: work(*given))
    return made


def ipywidgets() -> Any:
    """The library; MissingExtra where it is not installed."""
    with extra("notebook", "ipywidgets"):
        import ipywidgets as library
    return library
