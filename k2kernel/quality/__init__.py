"""How good the data is: per instrument and session, what is missing, out of order or out of line."""

from k2kernel.quality.report import COLUMNS, Quality, quality

__all__ = ["COLUMNS", "Quality", "quality"]
