"""History as a stream: pinned, in one order, resumable, at any pace."""

from k2kernel.replay.engine import ReplayEngine
from k2kernel.replay.events import Bar, Control, Event, Quote, Record, Trade
from k2kernel.replay.feed import Feed
from k2kernel.replay.follow import Follow
from k2kernel.replay.how import Ran
from k2kernel.replay.pacing import Clock, ManualClock, SystemClock
from k2kernel.replay.replay import Replay

__all__ = [
    "Bar",
    "Clock",
    "Control",
    "Event",
    "Feed",
    "Follow",
    "ManualClock",
    "Quote",
    "Ran",
    "Record",
    "Replay",
    "ReplayEngine",
    "SystemClock",
    "Trade",
]
