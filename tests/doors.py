"""One contract for every door: these statements give equal rows wherever they are asked.

`lake_of_doors` makes the lake that they are about, in two states, the first of which is tagged `eod`. Every statement
orders its rows wherever that matters, so doors are compared row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from k2kernel.config import Settings
from k2kernel.lake import Lake
from tests.query_lake import DAY, NEXT, add, at

HOSTILE = "BHP' OR '1'='1'; DROP TABLE trades; --"
"""A value that would do harm if it were ever pasted as text."""


@dataclass(frozen=True)
class Asked:
    """A statement, the texts and numbers of its `$names`, and the state it reads (None: the current one)."""

    sql: str
    params: dict[str, Any] = field(default_factory=dict)
    as_of: str | None = None


_ORDER = "ORDER BY ts_event, symbol, source, source_offset"

STATEMENTS = (
    Asked("SELECT 1 AS one, 'x' AS text, NULL AS nothing"),
    Asked("SELECT count(*) AS n FROM trades"),
    Asked("SELECT count(*) AS n FROM trades", as_of="eod"),
    Asked("SELECT count(*) AS n FROM trades_raw"),
    Asked("SELECT count(*) AS n FROM quotes"),
    Asked(f"SELECT * FROM trades {_ORDER}"),
    Asked(f"SELECT * FROM trades {_ORDER}", as_of="eod"),
    Asked(f"SELECT * FROM quotes {_ORDER}"),
    Asked(f"FROM trades_raw {_ORDER}"),
    Asked(f"SELECT symbol, price, size FROM trades WHERE symbol = $s {_ORDER}", {"s": "BHP"}),
    Asked(f"SELECT symbol, price, size FROM trades WHERE symbol = $s {_ORDER}", {"s": HOSTILE}),
    Asked(f"SELECT symbol, price, size FROM trades WHERE symbol = $s {_ORDER}", {"s": "O'NEIL; --"}),
    Asked("SELECT count(*) AS n FROM trades WHERE symbol = $s OR symbol = $t", {"s": "BHP", "t": "RIO"}),
    Asked("SELECT $s AS given", {"s": HOSTILE}),
    Asked("SELECT $s || '$s' AS given", {"s": "{s} %s $t"}),
    Asked("SELECT symbol, sum(size) AS volume FROM trades GROUP BY symbol ORDER BY symbol"),
    Asked("SELECT symbol, sum(size) AS volume FROM trades GROUP BY symbol ORDER BY symbol", as_of="eod"),
    Asked("SELECT session, min(price) AS low, max(price) AS high FROM trades GROUP BY ALL ORDER BY ALL"),
    Asked("SELECT sum(price::DECIMAL(38, 8) * size) AS notional FROM trades"),
    Asked("SELECT avg(price) AS mean, stddev(price::DOUBLE) AS deviation FROM trades WHERE symbol = 'RIO'"),
    Asked(f"SELECT ts_event, price FROM trades WHERE session = $d {_ORDER}", {"d": DAY.isoformat()}),
    Asked(f"SELECT symbol FROM trades WHERE ts_event >= TIMESTAMPTZ '2014-03-10 23:00:00+00' {_ORDER}"),
    Asked(
        "WITH big AS (FROM trades WHERE size >= 200) SELECT symbol, count(*) AS n FROM big GROUP BY ALL ORDER BY ALL"
    ),
    Asked(
        "SELECT now.n - before.n AS added FROM (SELECT count(*) AS n FROM trades) now, "
        "(SELECT count(*) AS n FROM trades FOR VERSION AS OF 'eod') before"
    ),
    Asked("SELECT count(*) AS n FROM trades FOR VERSION AS OF $state", {"state": "eod"}),
    Asked("SELECT count(*) AS n FROM trades AT (VERSION => 'eod')"),
    Asked(
        "SELECT t.symbol, t.price, q.bid_px FROM trades t ASOF JOIN quotes q ON t.symbol = q.symbol "
        "AND t.ts_event >= q.ts_event ORDER BY t.ts_event, t.symbol, t.source_offset"
    ),
    Asked("SELECT symbol, row_number() OVER (ORDER BY ts_event, source_offset) AS n FROM trades ORDER BY n LIMIT 3"),
    Asked("SELECT conditions, list_contains(conditions, 'XT') AS crossed FROM trades ORDER BY source_offset, symbol"),
    Asked("SELECT DISTINCT venue FROM quotes ORDER BY venue"),
    Asked("SELECT * FROM instruments"),
    Asked("SELECT * FROM dead_letter"),
    Asked("DESCRIBE trades"),
    Asked("VALUES (1, 'a'), (2, 'é'), (3, NULL)"),
    Asked("SELECT count(*) AS n FROM market_data.trades WHERE price < 0"),
    Asked("SELECT price FROM trades WHERE price = (SELECT max(price) FROM trades)"),
    Asked("SELECT symbol FROM trades UNION ALL SELECT symbol FROM quotes ORDER BY symbol"),
    Asked("SELECT range AS n FROM range(5)"),
    Asked("SELECT * FROM trades WHERE false"),
    Asked('-- a comment\nSELECT /* another */ count(*) AS "how many" FROM trades'),
)


WRONG = (
    Asked("SELECT * FROM nosuch"),
    Asked("DROP TABLE trades"),
    Asked("SELECT prize FROM trades"),
    Asked("SELECT 1; SELECT 2"),
    Asked("SELECT count(*) FROM read_csv('/etc/passwd')"),
    Asked("SELECT count(*) FROM trades", as_of="nosuch"),
    Asked("SELECT count(*) FROM trades", as_of="2014-03-10"),
    Asked("SELECT count(*) FROM trades", as_of="2001-01-01T00:00:00Z"),
    Asked("SELECT count(*) FROM trades FOR VERSION AS OF 'nosuch'"),
    Asked("SELECT * FROM bars('BHP', '1x')"),
)
"""Statements that are refused or fail, everywhere in the same words."""

WRONG_WORDS: tuple[tuple[str, dict[str, str]], ...] = (
    ("trades", {"symbol": "NOSUCH"}),
    ("trades", {"symbol": "BHP", "venue": "XNYS"}),
    ("trades", {"symbol": "BHP", "as_of": "nosuch"}),
    ("trades", {"symbol": "BHP", "session": "yesterday"}),
    ("trades", {"symbol": "BHP", "start": "2014-03-10 10:00"}),
    ("quotes", {"symbol": "BHP", "end": "2014-03-10T10:00"}),
    ("trades", {"symbol": "BHP", "known_at": "2014-03-10"}),
    ("trades", {"symbol": "BHP", "clock": "wall"}),
    ("trades", {"symbol": "BHP", "hours": "day"}),
    ("trades", {"symbol": "BHP", "adjustment": "splits"}),
    ("bars", {"symbol": "BHP", "interval": "1x"}),
    ("bars", {"symbol": "BHP", "interval": "1m", "of": "trade"}),
    ("bars", {"symbol": "BHP", "interval": "1m", "eligible": "some"}),
    ("bars", {"symbol": "BHP", "interval": "1m", "align": "left"}),
    ("bars", {"symbol": "BHP", "interval": "tick:10", "fill": "null"}),
)
"""Words that are wrong, everywhere in the same words."""


def lake_of_doors(settings: Settings) -> Lake:
    """BHP and RIO over two sessions, with exact repeats, a cancel, odd names and quotes; the first state is `eod`."""
    lake = Lake.open(settings, create=True)
    first = [
        {"symbol": "BHP", "ts_event": at(0), "price": Decimal("35.105"), "size": Decimal(100), "conditions": ["XT"]},
        {"symbol": "BHP", "ts_event": at(0), "price": Decimal("35.105"), "size": Decimal(100), "conditions": ["XT"]},
        {"symbol": "BHP", "ts_event": at(1), "price": Decimal("35.11"), "size": Decimal("0.5"), "trade_id": "7"},
        {"symbol": "RIO", "ts_event": at(2), "price": Decimal("-0.01"), "size": Decimal(300), "side": "sell"},
    ]
    add(lake, "a" * 64, [_XASX | row for row in first])
    quotes = [{"symbol": name, "ts_event": at(n)} for n in range(3) for name in ("BHP", "RIO")]
    add(lake, "b" * 64, [_XASX | row for row in quotes], "quotes")
    for table in ("trades", "quotes"):
        lake.tag(table, "eod")
    second = [
        {"symbol": "BHP", "ts_event": at(3), "trade_id": "8", "status": "cancel", "corrects": "7"},
        {"symbol": "O'NEIL; --", "ts_event": at(4), "price": None, "size": Decimal(1)},
    ]
    add(lake, "c" * 64, [_XASX | row for row in second], minute=5)
    later = [{"symbol": "RIO", "session": NEXT, "ts_event": at(n, NEXT), "size": Decimal(200 + n)} for n in range(30)]
    add(lake, "d" * 64, [_XASX | row for row in later], minute=9)
    return lake


_XASX: dict[str, Any] = {"venue": "XASX", "session": DAY, "clock": "venue"}
