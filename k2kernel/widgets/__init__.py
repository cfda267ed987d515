"""Widgets of ipywidgets: go through states, play history, look around, watch a load."""

from k2kernel.widgets.explorer import Explorer
from k2kernel.widgets.player import ReplayPlayer
from k2kernel.widgets.progress import IngestProgress
from k2kernel.widgets.travel import TimeTravel

__all__ = ["Explorer", "IngestProgress", "ReplayPlayer", "TimeTravel"]
