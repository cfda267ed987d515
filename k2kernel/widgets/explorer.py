"""Looking around: which instruments there are, and what a session of one looked like."""

from __future__ import annotations

from html import escape
from typing import Any

from k2kernel.errors import K2Error
from k2kernel.widgets.page import OnPage, ipywidgets
from k2kernel.workbench import View, Workbench

INTERVALS = ("1m", "5m", "15m", "1h")


class Explorer(OnPage):
    """The instruments and sessions of a lake: choose one, and see its figures and candles.

    `symbol` and `words` (venue and session) are what is chosen, to go on with: `wb.trades(e.symbol, **e.words)`.
    K2Error where the lake has no instrument.
    """

    def __init__(self, reader: Workbench | View) -> None:
        self.reader = reader if isinstance(reader, View) else reader.at()
        self._found = {
            f"{row['symbol']} on {row['venue']}": row for row in self.reader.symbols().to_polars().iter_rows(named=True)
        }
        if not self._found:
            raise K2Error("The lake has no instrument yet", "Load something first")
        self._days = [
            (row["session"], row["venue"]) for row in self.reader.sessions().to_polars().iter_rows(named=True)
        ]
        self.box = self._made()
        self._offer_days()

    @property
    def symbol(self) -> str:
        """The chosen symbol."""
        return str(self._found[self._symbol.value]["symbol"])

    @property
    def words(self) -> dict[str, str]:
        """The chosen venue and session, for a read verb."""
        return {"venue": self._found[self._symbol.value]["venue"], "session": self._session.value}

    @property
    def text(self) -> str:
        """The instruments."""
        return "\n".join(
            f"{name}: {row['trades']:,} trades, {row['quotes']:,} quotes, "
            f"{row['first_session']} to {row['last_session']}"
            for name, row in self._found.items()
        )

    def _made(self) -> Any:
        w = ipywidgets()
        narrow = w.Layout(width="220px")
        self._symbol = w.Combobox(
            options=list(self._found), value=next(iter(self._found)), ensure_option=True, layout=narrow
        )
        self._session = w.Dropdown(layout=w.Layout(width="140px"))
        self._interval = w.ToggleButtons(options=INTERVALS, value="5m", style={"button_width": "58px"})
        self._facts, self._chart = w.HTML(), w.Output()
        self._symbol.observe(lambda _: self._offer_days(), "value")
        for each in (self._session, self._interval):
            each.observe(lambda _: self._show(), "value")
        bar = w.HBox([self._symbol, self._session, self._interval])
        return w.VBox([bar, self._facts, self._chart]).add_class("k2-explorer")

    def _offer_days(self) -> None:
        row = self._found[self._symbol.value]
        within = [day for day, venue in self._days if venue == row["venue"]]
        days = [str(day) for day in within if row["first_session"] <= day <= row["last_session"]]
        kept = self._session.value if self._session.value in days else days[-1]
        self._session.options = days
        self._session.value = kept
        self._show()

    def _show(self) -> None:
        if self._session.value is None:
            return
        from IPython.display import display

        from k2kernel import plots

        summary = self.reader.summary(self.symbol, self.words["session"], venue=self.words["venue"])
        self._facts.value = summary._repr_html_()
        self._chart.clear_output(wait=True)
        with self._chart:
            try:
                display(plots.candles(self.reader, self.symbol, self._interval.value, **self.words))
            except K2Error as error:
                display({"text/html": f"<p>{escape(str(error))}</p>", "text/plain": str(error)}, raw=True)
