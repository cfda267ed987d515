"""What the words of every door mean: one sentence for each, which the command line, the magics and HTTP show; and how
those are read that doors read alike.

A word has one name, one default and one meaning wherever it is taken; how several values are written is the door's.
"""

from __future__ import annotations

from collections.abc import Iterable

from k2kernel.errors import InvalidParameter

AS_OF = "snapshot id, tag, branch, pin, or time with zone"
KNOWN_AT = "time with zone: only what was known by then"
CLOCK = "by what time things were known: ingest, recv or event"

SYMBOLS = "one or more instruments; default: all"
INSTRUMENT = "the instrument"
VENUE = "MIC or declared code"
SESSION = "YYYY-MM-DD, or FIRST..LAST, both inclusive"
ONE_SESSION = "trading date at the venue, YYYY-MM-DD"
START = "time with zone, inclusive; a bare date is the start of that session"
END = "time with zone, exclusive; a bare date is the start of that session"
HOURS = "all, rth (open to close, breaks apart), or rth+auctions"
RAW = "every row received, also undone ones"
COLUMNS = "columns, in this order, joined by commas; default: all"
DESCENDING = "the latest first"
ADJUSTMENT = "prices across corporate actions: raw, split, dividend or all"

INTERVAL = "1s, 5m, 1h, 1d, session, tick:1000, volume:50000, dollar:1e6"
OF = "trades, bid, ask or mid; default: trades, mid where there are none"
ELIGIBLE = "which trades count: venue (the venue's policy), all, or a policy"
ALIGN = "where buckets begin: session (with it), or clock (the venue's local time)"
FILL = "bars where nothing traded: null, or previous (at the close before)"
CACHED = "merge kept bars of this interval (wb.materialise_bars), such as 1m"
FIGURES = "names joined by commas, such as ts_open,close,twap; all: every figure"

SIGN = "who began a trade: side (as the venue says), quote, tick or lee_ready"
HORIZON = "how long after a trade its realised spread is taken: 10s, 5m"
BOOK = "where several venues quote: nbbo, same_exec_venue or last_row"
ON = "the clock: ts_event or ts_recv"
INCLUSIVE = "also quotes of the instant of a trade"
TOLERANCE = "no quote that is older, such as 5s"
LAG = "how old a quote must be to give a sign, such as 5s"
SIDES = "which quotes: any, two_sided or uncrossed"

TABLE = "trades, quotes, …"
STATEMENT = "one SELECT, WITH, VALUES, DESCRIBE or SUMMARIZE over trades, quotes, …"
PARAMS = "values of the $names in the statement"
ENGINE = "what runs the statement: duckdb or spark; default: K2_ENGINE"

KINDS = "trades, quotes; default: both"
ORDER_BY = "ts_event, or ts_recv for the order of capture"
TIES = "at one instant: quotes_first or trades_first"
SPEED = "times the pace of history; 0: as fast as it goes"
POSITION = "go on from here: what an equal replay said at its end"
DIGEST = "say the digest of the events at the end"
GAPS = "watch sequence numbers, which count the rows of an instrument, or of a source"

PROFILE = "a shipped profile, or a .toml file"
WHERE_FILES_DO_NOT_SAY = "where the files do not say it"
OPTION = "NAME=TEXT, such as date=2024-03-04, where the profile reads it"
REPLACE = "take out what was loaded of the same content or from the same path"
APPEND_GROWN = "load what a file has grown by"
MAX_REJECTS = "share of lines that may be bad, 0 to 1"
ON_DUPLICATE = "fills that repeat a venue's id: keep_all, keep_first, keep_last or error"
WORKERS = "files loaded at a time, one a core at most, each in its own process"

MOVE = "the name may stand elsewhere already"
PINNED = "one or more tables; default: all"
HOLD_UNTIL = "YYYY-MM-DD, the last day (UTC) on which the pin cannot be removed"

GROUP = "share the partitions with other sinks of this group"
ROWS = "commit after so many messages"
NBYTES = "or so many bytes of them"
SECONDS = "or so long after the first"
BAD = "what to do with messages that are no rows: dead_letter, skip or suspend"
MAX_MESSAGES = "stop after exactly so many"
UNTIL_END = "stop where the topics end now"


def parse_limit(limit: object) -> int | None:
    """A number of rows from 0, or None for all."""
    if limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0):
        return limit
    raise InvalidParameter("limit", limit, "is not a number of rows", "Give a whole number from 0, or leave it out")


def by_name(option: str, given: Iterable[str] | None) -> dict[str, str]:
    """The texts of an option that is given as NAME=TEXT, any number of times, by their names."""
    found = {}
    for each in given or ():
        name, mark, text = each.partition("=")
        if not mark or not name:
            raise InvalidParameter(option, each, "is not NAME=TEXT", f"Write it like --{option} date=2024-03-04")
        found[name] = text
    return found
