"""The façade that every door uses: `connect` to a `Workbench`, and a `View` of one of its states."""

from k2kernel.workbench.evidence import Evidence
from k2kernel.workbench.view import View
from k2kernel.workbench.workbench import Workbench, connect, expand

__all__ = ["Evidence", "View", "Workbench", "connect", "expand"]
