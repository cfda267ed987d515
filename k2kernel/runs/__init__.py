"""Notebook runs that can be repeated: `run` one at a settled state of the lake, `verify` it later."""

from k2kernel.runs.record import Run
from k2kernel.runs.run import run, verify

__all__ = ["Run", "run", "verify"]
