"""The read path: PyIceberg plans, DuckDB scans; trades, quotes, bars, summaries, SQL and what there is."""

from k2kernel.query.diff import Diff
from k2kernel.query.engine import QueryEngine
from k2kernel.query.joins import Joins
from k2kernel.query.pages import Page
from k2kernel.query.position import EVENT_KEY, Position, digest_of
from k2kernel.query.result import Result
from k2kernel.query.scope import CancelScope
from k2kernel.query.summary import Summary

__all__ = [
    "EVENT_KEY",
    "CancelScope",
    "Diff",
    "Joins",
    "Page",
    "Position",
    "QueryEngine",
    "Result",
    "Summary",
    "digest_of",
]
