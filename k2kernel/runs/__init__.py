"""Notebook runs that can be repeated: `run` one at a settled state of the lake, `verify` it, do it on a `Schedule`."""

from k2kernel.runs.plan import Job, load
from k2kernel.runs.record import Run
from k2kernel.runs.run import again, history, run, verify
from k2kernel.runs.schedule import Schedule

__all__ = ["Job", "Run", "Schedule", "again", "history", "load", "run", "verify"]
