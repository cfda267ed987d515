"""Charts for notebooks: HoloViews objects that say what they are of.

Each takes a `Workbench` or a `View` and the words of the read verb behind it, and says the policy, the hours, the
clock, the zone and the snapshot. Prices are drawn as floats; nothing is computed from those. A long series is thinned
to what a screen can show, and the chart says so.
"""

from k2kernel.plots.candles import candles
from k2kernel.plots.generic import chart
from k2kernel.plots.history import snapshots
from k2kernel.plots.imbalance import imbalance
from k2kernel.plots.latency import latency
from k2kernel.plots.profile import profile
from k2kernel.plots.ticks import quotes, tape

__all__ = ["candles", "chart", "imbalance", "latency", "profile", "quotes", "snapshots", "tape"]
