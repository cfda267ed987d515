"""Hours of trading as conditions in SQL: which rows are between the open and the close of their venue's session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from k2kernel.cached import cached_property
from k2kernel.calendars import Intervals, Venue, trading, unsure
from k2kernel.errors import one_of
from k2kernel.query.buckets import session_start
from k2kernel.query.scan import Values
from k2kernel.times import midnight_us

ALL, REGULAR, AUCTIONS = "all", "rth", "rth+auctions"
WORDS = (ALL, REGULAR, AUCTIONS)
"""What `hours` can be."""

SPOKEN = {ALL: "all hours", REGULAR: "regular hours", AUCTIONS: "regular hours and auctions"}
"""The words as displays say them."""

_FEW = 16
"""Sessions that are looked for one by one, which is quicker to plan than a list of them."""

_SINCE_SESSION = "(epoch_us(ts_event) - epoch_us(session))"


def parse_hours(value: object) -> str:
    """`all`, `rth` or `rth+auctions`."""
    return one_of("hours", value, WORDS)


@dataclass(frozen=True)
class Hours:
    """The hours `word` of venues in some sessions.

    `trading` has the intervals of the sessions on which each venue trades, of all the `sessions` (how many) that rows
    can be of. Trades that carry one of the venue's `codes` are within the hours at any time. `notes` say what is
    unsure, a sentence each.
    """

    word: str
    sessions: int
    trading: Mapping[str, Mapping[date, Intervals]]
    codes: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()

    @cached_property
    def span_us(self) -> tuple[int | None, int | None]:
        """µs since 1970 from the first open to the last close; None where rows at any time may be within the hours."""
        edges = [(midnight_us(day), spans) for venue in self.trading.values() for day, spans in venue.items()]
        if not edges or any(self.codes.values()):
            return None, None
        return min(at + spans[0][0] for at, spans in edges), max(at + spans[-1][1] for at, spans in edges)

    def conditions(self, values: Values) -> list[str]:
        """The hours as SQL conditions, to be joined by AND."""
        texts = {venue: self._within(venue, values) for venue in self.trading}
        if len(set(texts.values())) == 1:
            either = next(iter(texts.values()))
        else:
            either = " OR ".join(f"venue = {values.bind(venue)} AND {text}" for venue, text in texts.items())
        bounds = zip((">=", "<"), self.span_us, strict=True)
        coarse = (f"ts_event {sign} make_timestamptz({values.bind(us)})" for sign, us in bounds if us is not None)
        return [*coarse, f"({either or 'false'})"]

    def _within(self, venue: str, values: Values) -> str:
        """True for the rows of a venue that are within its hours: sessions with the same ones (in UTC) together."""
        groups: dict[Intervals, list[date]] = {}
        for day, intervals in self.trading[venue].items():
            groups.setdefault(intervals, []).append(day)
        texts = [self._at(intervals, days, values) for intervals, days in groups.items()]
        if self.codes.get(venue):
            carries = " OR ".join(f"list_contains(conditions, {values.bind(code)})" for code in self.codes[venue])
            texts.append(f"coalesce({carries}, false)")
        return f"({' OR '.join(texts) or 'false'})"

    def _at(self, intervals: Intervals, days: list[date], values: Values) -> str:
        times = (
            f"{_SINCE_SESSION} >= {values.bind(start)} AND {_SINCE_SESSION} < {values.bind(end)}"
            for start, end in intervals
        )
        within = f"({' OR '.join(times)})"
        if len(days) == self.sessions:
            return within
        among = ", ".join(map(values.bind, days)) if len(days) <= _FEW else f"SELECT unnest({values.bind(days)})"
        return f"{within} AND session IN ({among})"


def hours_of(word: str, venues: Iterable[Venue], sessions: Sequence[date], codes: Mapping[str, Sequence[str]]) -> Hours:
    """The hours `word` of venues in the sessions that rows can be of; `all` are the sessions themselves, by the clock.

    `codes` are the conditions that mark an auction's trades at each venue; they and the venue's auction windows count
    with `rth+auctions` only.
    """
    with_auctions = word == AUCTIONS
    venues = list(venues)
    if word == ALL:
        return Hours(word, len(sessions), {venue.code: _whole(venue, sessions) for venue in venues}, {})
    known = {venue.code: trading(venue, sessions, auctions=with_auctions) for venue in venues}
    notes = (unsure(venue, sessions) for venue in venues)
    return Hours(word, len(sessions), known, codes if with_auctions else {}, tuple(filter(None, notes)))


def _whole(venue: Venue, sessions: Sequence[date]) -> dict[date, Intervals]:
    """From the start of each session to that of the next."""
    starts = {day: (session_start(venue, day), session_start(venue, day + timedelta(days=1))) for day in sessions}
    return {day: ((first - midnight_us(day), after - midnight_us(day)),) for day, (first, after) in starts.items()}
