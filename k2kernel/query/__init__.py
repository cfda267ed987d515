"""The read path: PyIceberg plans, DuckDB scans; trades, quotes, bars, summaries, SQL and what there is."""

from k2kernel.query.bar_cache import Materialised
from k2kernel.query.diff import Diff
from k2kernel.query.engine import QueryEngine
from k2kernel.query.joins import Joins
from k2kernel.query.result import Result
from k2kernel.query.summary import Summary

__all__ = ["Diff", "Joins", "Materialised", "QueryEngine", "Result", "Summary"]
