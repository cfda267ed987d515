"""k2kernel: a Jupyter-first research workbench for market data.

`connect()` opens the lake and returns a `Workbench`; everything else hangs off it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from k2kernel.config import Settings
    from k2kernel.errors import K2Error
    from k2kernel.ingest import Receipt
    from k2kernel.query import CancelScope, Page, Position, QueryEngine, Result, Summary
    from k2kernel.replay import Bar, Control, Quote, Replay, ReplayEngine, Trade
    from k2kernel.workbench import Workbench, connect

# Read when Polars is loaded. By itself it hands freed memory back to the system after half a second, and a load or a
# stream, which wants as much again at once, spends a tenth of its time on getting it.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000")

__version__ = "0.1.0"

_HOMES = {
    "Bar": "replay",
    "CancelScope": "query",
    "Control": "replay",
    "K2Error": "errors",
    "Page": "query",
    "Position": "query",
    "QueryEngine": "query",
    "Quote": "replay",
    "Receipt": "ingest",
    "Replay": "replay",
    "ReplayEngine": "replay",
    "Result": "query",
    "Settings": "config",
    "Summary": "query",
    "Trade": "replay",
    "Workbench": "workbench",
    "connect": "workbench",
    "load_ipython_extension": "magics",
    "unload_ipython_extension": "magics",
}

__all__ = [
    "Bar",
    "CancelScope",
    "Control",
    "K2Error",
    "Page",
    "Position",
    "QueryEngine",
    "Quote",
    "Receipt",
    "Replay",
    "ReplayEngine",
    "Result",
    "Settings",
    "Summary",
    "Trade",
    "Workbench",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that `import k2kernel` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'k2kernel' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"k2kernel.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
