"""Venues: the session rule, and the hours at which they trade."""

from k2kernel.calendars.hours import Interval, Intervals, opening_hours, trading, unsure
from k2kernel.calendars.venues import ASSET_CLASSES, Venue, session_expr, session_of, venue, venues

__all__ = [
    "ASSET_CLASSES",
    "Interval",
    "Intervals",
    "Venue",
    "opening_hours",
    "session_expr",
    "session_of",
    "trading",
    "unsure",
    "venue",
    "venues",
]
