"""The words of a query: the same in the URL of a GET and in the JSON body of a POST. Unknown words are refused."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from k2kernel import words

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
Limit = Annotated[int, Field(ge=1, le=MOST_A_PAGE, description="rows of a page")]


def meant(text: str, *known: str, default: Any = None, example: Any = None) -> Any:
    """A word with its meaning, and the values that are `known`: the workbench refuses others, as at every door."""
    shown: dict[str, Any] | None = {"enum": list(known)} if known else None
    return Field(default, description=text, json_schema_extra=shown, examples=None if example is None else [example])


HOURS = meant(words.HOURS, "all", "rth", "rth+auctions", default="all")
ELIGIBLE = meant(words.ELIGIBLE, default="venue")
ADJUSTMENT = meant(words.ADJUSTMENT, "raw", "split", "dividend", "all", default="raw")


class Words(BaseModel):
    """What every read takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: Text | None = meant(words.AS_OF, example="eod-2014-03-14")
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

    known_at: Text | None = meant(words.KNOWN_AT)
    clock: Text = meant(words.CLOCK, "ingest", "recv", "event", default="ingest")

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
    fields: Texts | None = meant(words.COLUMNS, example=["ts_event"])


class Selected(Paged):
    """Words that choose rows by instrument and time."""

    symbols: Texts | None = meant(words.SYMBOLS, example=["BHP"])
    venue: Text | None = meant(words.VENUE, example="XASX")
    session: Text | None = meant(words.SESSION)
    start: Text | None = meant(words.START)
    end: Text | None = meant(words.END)
    hours: Text = HOURS

    @property
    def selection(self) -> dict[str, Any]:
        """The words of a read verb that choose rows."""
        return {name: getattr(self, name) for name in ("venue", "session", "start", "end", "hours")} | self.when


class EventWords(Selected):
    """Words of trades and quotes."""

    sort: Literal["ts_event", "-ts_event"] = Field(
        "ts_event", description=f"the total order; with - {words.DESCENDING}"
    )
    raw: bool = meant(words.RAW, default=False)


class TradeWords(EventWords):
    """Words of trades."""

    adjustment: Text = ADJUSTMENT


class BarWords(Selected):
    """Words of bars."""

    interval: Text = meant(words.INTERVAL, default="1m", example="1m")
    of: Text | None = meant(words.OF, "trades", "bid", "ask", "mid")
    eligible: Text = ELIGIBLE
    align: Text = meant(words.ALIGN, "session", "clock", default="session")
    fill: Text | None = meant(words.FILL, "null", "previous")
    fields: Texts | None = meant(words.FIGURES, example=["ts_open"])
    adjustment: Text = ADJUSTMENT
    cached: Text | None = meant(words.CACHED)

    @property
    def made(self) -> dict[str, Any]:
        """The words of `bars` that say how they are made."""
        columns = "all" if self.fields == ["all"] else self.fields
        named = ("of", "eligible", "align", "fill", "adjustment", "cached")
        return {name: getattr(self, name) for name in named} | {"columns": columns}


class SummaryWords(Known):
    """Words of a summary."""

    venue: Text | None = meant(words.VENUE, example="XASX")
    eligible: Text = ELIGIBLE
    hours: Text = HOURS
    adjustment: Text = ADJUSTMENT

    @property
    def chosen(self) -> dict[str, Any]:
        """The words of `summary` that say what it is of."""
        return {name: getattr(self, name) for name in ("venue", "eligible", "hours", "adjustment")}


class SnapshotWords(Words):
    """Words of the list of snapshots."""

    table: Text = meant(words.TABLE, default="trades")


class SnapshotQuery(EventWords):
    """Words of a query of one snapshot: it says the state, so there is no as_of."""

    as_of: None = Field(None, description="not given: the path says the snapshot")


class ReplayWords(Selected):
    """Words of a replay in pages."""

    fields: None = Field(None, description="not given: a replay has all columns")
    kinds: Texts = meant(words.KINDS, default=["trades", "quotes"])
    raw: bool = meant(words.RAW, default=False)
    order_by: Text = meant(words.ORDER_BY, "ts_event", "ts_recv", default="ts_event")
    ties: Text = meant(words.TIES, "quotes_first", "trades_first", default="quotes_first")


class StreamWords(ReplayWords):
    """Words of a replay as server-sent events."""

    limit: Limit | None = Field(None, description="events after which the stream ends; default: all")
    speed: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = meant(words.SPEED, default=0)
    format: None = Field(None, description="not given: the stream is text/event-stream")


class SqlWords(Known):
    """One read-only statement."""

    query: Annotated[str, Field(min_length=1, max_length=100_000)] = Field(
        description=words.STATEMENT,
        examples=["SELECT symbol, count(*) AS n FROM trades GROUP BY ALL"],
    )
    params: dict[Text, JsonValue] = meant(words.PARAMS, default={})
    limit: Limit | None = Field(None, description=f"rows of the answer; JSON has {USUAL_PAGE} unless told")
