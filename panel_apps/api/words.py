"""The words of a query: the same in the URL of a GET and in the JSON body of a POST. Unknown words are refused."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

MOST_A_PAGE = 65_536
"""Rows that a page may have."""

USUAL_PAGE = 1_000
"""Rows of a page that does not say how many."""

_TEXT = r"^[^\x00-\x1f\x7f]+$"


class Format(StrEnum):
    """The formats of an answer."""

    json = "json"
    ndjson = "ndjson"
    csv = "csv"
    parquet = "parquet"
    arrow = "arrow"


def _split(value: Any) -> Any:
    """`BHP,RIO` and `symbols=BHP&symbols=RIO` as a list of texts."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list):
        return given
    return [part for item in given for part in (item.split(",") if isinstance(item, str) else [item])]


Text = Annotated[str, Field(min_length=1, max_length=200, pattern=_TEXT)]
Texts = Annotated[list[Text], BeforeValidator(_split), Field(min_length=1, max_length=1_000)]
Hours = Annotated[
    Literal["all", "rth", "rth+auctions"], Field(description="which hours: all, the session's, or those and auctions")
]
Adjustment = Annotated[
    Literal["raw", "split", "dividend", "all"], Field(description="for which corporate actions prices are adjusted")
]
Limit = Annotated[int, Field(ge=1, le=MOST_A_PAGE, description="rows of a page")]


class Words(BaseModel):
    """What every read takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: Text | None = Field(
        None, description="snapshot id, tag, branch, pin, or a time with zone", examples=["eod-2014-03-14"]
    )
    format: Format | None = Field(None, description="format of the answer; default: by the Accept header")
    tz: Text | None = Field(
        None, description="zone in which times are written; default: UTC", examples=["Australia/Sydney"]
    )

    @property
    def asked(self) -> dict[str, Any]:
        """The words that decide which rows come and in which order."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"format", "tz", "limit", "cursor", "fields"})

    @property
    def page(self) -> tuple[int | None, str | None]:
        """The rows that were asked for at once, and the cursor."""
        return getattr(self, "limit", None), getattr(self, "cursor", None)


class Known(Words):
    """Words of reads that can be asked for what was known at an instant."""

    known_at: Text | None = Field(None, description="time with zone: only what was known by then")
    clock: Literal["ingest", "recv", "event"] = Field("ingest", description="with known_at, by what time")

    @property
    def when(self) -> dict[str, Any]:
        """The words of a read verb that say of when, as_of apart."""
        return {"known_at": self.known_at, "clock": self.clock}


class Paged(Known):
    """Words of reads that answer in pages."""

    limit: Limit | None = Field(
        None,
        description=f"rows of a page, {USUAL_PAGE} unless told; without limit and cursor the formats other than JSON "
        "have all rows",
    )
    cursor: Annotated[str, Field(max_length=4_000)] | None = Field(
        None, description="next_cursor of the page before, with the same words"
    )
    fields: Texts | None = Field(None, description="columns, in this order; default: all", examples=[["ts_event"]])


class Selected(Paged):
    """Words that choose rows by instrument and time."""

    symbols: Texts | None = Field(None, description="tickers; default: all", examples=[["BHP"]])
    venue: Text | None = Field(None, description="MIC or declared code", examples=["XASX"])
    session: Text | None = Field(None, description="YYYY-MM-DD, or FIRST..LAST, both inclusive")
    start: Text | None = Field(None, description="time with zone, inclusive; a bare date is the start of that session")
    end: Text | None = Field(None, description="time with zone, exclusive; a bare date is the start of that session")

    hours: Hours = "all"

    @property
    def selection(self) -> dict[str, Any]:
        """The words of a read verb that choose rows."""
        return {name: getattr(self, name) for name in ("venue", "session", "start", "end", "hours")} | self.when


class EventWords(Selected):
    """Words of trades and quotes."""

    sort: Literal["ts_event", "-ts_event"] = Field("ts_event", description="the total order; with - the latest first")
    raw: bool = Field(False, description="every row received, also undone ones")


class TradeWords(EventWords):
    """Words of trades."""

    adjustment: Adjustment = "raw"


class BarWords(Selected):
    """Words of bars."""

    interval: Text = Field("1m", description="1s, 5m, 1h, 1d, session", examples=["1m"])
    of: Literal["trades", "bid", "ask", "mid"] = Field("trades", description="what the bars are of")
    eligible: Text = Field("venue", description="which trades count: venue (the venue's policy), all, or a policy")
    adjustment: Adjustment = "raw"


class SummaryWords(Known):
    """Words of a summary."""

    venue: Text | None = Field(None, description="MIC or declared code", examples=["XASX"])
    eligible: Text = Field("venue", description="which trades count: venue (the venue's policy), all, or a policy")
    hours: Hours = "all"


class SnapshotWords(Words):
    """Words of the list of snapshots."""

    table: Text = Field("trades", description="the table")


class SnapshotQuery(EventWords):
    """Words of a query of one snapshot: it says the state, so there is no as_of."""

    as_of: None = Field(None, description="not given: the path says the snapshot")


class ReplayWords(Selected):
    """Words of a replay in pages."""

    fields: None = Field(None, description="not given: a replay has all columns")
    kinds: Texts = Field(["trades", "quotes"], description="trades, quotes or both")
    raw: bool = Field(False, description="every row received, also undone ones")
    order_by: Literal["ts_event", "ts_recv"] = Field("ts_event", description="the clock that orders the events")
    ties: Literal["quotes_first", "trades_first"] = Field("quotes_first", description="at one instant")


class StreamWords(ReplayWords):
    """Words of a replay as server-sent events."""

    limit: Limit | None = Field(None, description="events after which the stream ends; default: all")
    speed: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = Field(
        0, description="times the pace of history; 0: as fast as it goes"
    )
    format: None = Field(None, description="not given: the stream is text/event-stream")


class SqlWords(Known):
    """One read-only statement."""

    query: Annotated[str, Field(min_length=1, max_length=100_000)] = Field(
        description="one SELECT, WITH, VALUES, DESCRIBE or SUMMARIZE; `$name` is bound",
        examples=["SELECT symbol, count(*) AS n FROM trades GROUP BY ALL"],
    )
    params: dict[Text, JsonValue] = Field({}, description="the values of `$names`")
    limit: Limit | None = Field(None, description=f"rows of the answer; JSON has {USUAL_PAGE} unless told")
