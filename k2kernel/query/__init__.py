"""The read path: PyIceberg plans, DuckDB scans; trades, quotes, bars, summaries, SQL and what there is."""

from typing import TYPE_CHECKING, Any

from k2kernel.query.engine import QueryEngine
from k2kernel.query.pages import Page
from k2kernel.query.position import EVENT_KEY, Position, digest_of
from k2kernel.query.result import Result
from k2kernel.query.scope import CancelScope
from k2kernel.query.summary import Summary

if TYPE_CHECKING:
    from k2kernel.query.bar_cache import Materialised
    from k2kernel.query.diff import Diff
    from k2kernel.query.joins import Joins

_HOMES = {"Diff": "diff", "Joins": "joins", "Materialised": "bar_cache"}
"""What few reads need is loaded when it is first used."""

__all__ = [
    "EVENT_KEY",
    "CancelScope",
    "Diff",
    "Joins",
    "Materialised",
    "Page",
    "Position",
    "QueryEngine",
    "Result",
    "Summary",
    "digest_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'k2kernel.query' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"k2kernel.query.{_HOMES[name]}"), name)
