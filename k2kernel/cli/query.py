"""`k2 query`, also `k2-query`: the read verbs, each a thin door over the workbench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from k2kernel.cli.output import Output, rows
from k2kernel.cli.shared import Home, named, workbench

app = typer.Typer(
    help="Trades, quotes, bars, summaries, SQL and what there is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Symbols = Annotated[list[str] | None, typer.Option("--symbol", "-s", help="one or more; default: all")]
Venue = Annotated[str | None, typer.Option("--venue", "-v", help="MIC or declared code")]
Session = Annotated[str | None, typer.Option(help="YYYY-MM-DD, or FIRST..LAST, both inclusive")]
Start = Annotated[str | None, typer.Option(help="time with zone, inclusive; a bare date is the start of that session")]
End = Annotated[str | None, typer.Option(help="time with zone, exclusive; a bare date is the start of that session")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="snapshot id, tag, branch, pin, or time with zone")]
KnownAt = Annotated[str | None, typer.Option("--known-at", help="time with zone: only what was known by then")]
Clock = Annotated[str, typer.Option(help="with --known-at, by what time: ingest, recv or event")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", help="first rows only; a table shows 20 unless told")]
Format = Annotated[Output, typer.Option("--output", "-o", help="how rows are written")]
Eligible = Annotated[str, typer.Option(help="which trades count: venue (the venue's policy), all, or a policy")]
Adjustment = Annotated[str, typer.Option(help="prices across corporate actions: raw, split, dividend or all")]

Hours = Annotated[str, typer.Option(help="all, rth (open to close, breaks apart), or rth+auctions")]

_TRADES = ["ts_event", "symbol", "venue", "price", "size", "side", "conditions"]
_QUOTES = ["ts_event", "symbol", "venue", "bid_sz", "bid_px", "ask_px", "ask_sz", "conditions"]
_SPREADS = ["ts_event", "price", "size", "sign", "bid_px", "ask_px", "mid", "effective_spread", "realised_spread"]
"""The columns that a table on the screen shows; every other format has all."""


def _events(
    verb: str, short: list[str], home: Path | None, limit: int | None, output: Output, columns: str | None, **words: Any
) -> None:
    shown = _names(columns) or (short if output is Output.table else None)
    read = getattr(workbench(home), verb)
    rows(read(columns=shown, limit=output.limit(limit), **words), output, limit)


def _names(columns: str | None) -> list[str] | None:
    """Names joined by commas."""
    return [name.strip() for name in columns.split(",")] if columns else None


Columns = Annotated[str | None, typer.Option(help="names joined by commas; default: all, or a few in a table")]


@app.command()
def trades(
    symbol: Symbols = None,
    venue: Venue = None,
    session: Session = None,
    start: Start = None,
    end: End = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    raw: Annotated[bool, typer.Option("--raw", help="every row received, also undone ones")] = False,
    hours: Hours = "all",
    adjustment: Adjustment = "raw",
    columns: Columns = None,
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Trades that stand, in total order."""
    words = {"symbol": symbol, "venue": venue, "session": session, "start": start, "end": end}
    words |= {"as_of": as_of, "known_at": known_at, "clock": clock}
    _events("trades", _TRADES, home, limit, output, columns, raw=raw, hours=hours, adjustment=adjustment, **words)


@app.command()
def quotes(
    symbol: Symbols = None,
    venue: Venue = None,
    session: Session = None,
    start: Start = None,
    end: End = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    hours: Hours = "all",
    columns: Columns = None,
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Quotes in total order."""
    words = {"symbol": symbol, "venue": venue, "session": session, "start": start, "end": end}
    words |= {"as_of": as_of, "known_at": known_at, "clock": clock}
    _events("quotes", _QUOTES, home, limit, output, columns, hours=hours, **words)


@app.command()
def bars(
    symbol: Annotated[str, typer.Argument(help="the instrument")],
    interval: Annotated[
        str, typer.Argument(help="1s, 5m, 1h, 1d, session, tick:1000, volume:50000, dollar:1e6")
    ] = "1m",
    venue: Venue = None,
    session: Session = None,
    start: Start = None,
    end: End = None,
    of: Annotated[
        str | None, typer.Option(help="trades, bid, ask or mid; default: trades, mid where there are none")
    ] = None,
    eligible: Eligible = "venue",
    align: Annotated[
        str, typer.Option(help="buckets from the start of the session, or by the venue's clock")
    ] = "session",
    fill: Annotated[
        str | None, typer.Option(help="bars where nothing traded: null, or with the previous close")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="names joined by commas, such as ts_open,close,twap; or all")
    ] = None,
    hours: Hours = "all",
    adjustment: Adjustment = "raw",
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Open, high, low, close, volume and VWAP by time, by session, or by amount."""
    words: dict[str, Any] = {"venue": venue, "session": session, "start": start, "end": end, "of": of}
    words |= {"eligible": eligible, "hours": hours, "as_of": as_of, "known_at": known_at, "clock": clock}
    words |= {"align": align, "fill": fill, "columns": _names(columns) if columns != "all" else columns}
    rows(workbench(home).bars(symbol, interval, adjustment=adjustment, **words), output, limit)


@app.command()
def summary(
    symbol: Annotated[str, typer.Argument(help="the instrument")],
    session: Annotated[str, typer.Argument(help="trading date at the venue, YYYY-MM-DD")],
    venue: Venue = None,
    eligible: Eligible = "venue",
    hours: Hours = "all",
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """One session of one instrument: open, high, low, close, volume, VWAP."""
    from k2kernel.cli.output import record

    words = {"eligible": eligible, "hours": hours, "as_of": as_of, "known_at": known_at, "clock": clock}
    record(workbench(home).summary(symbol, session, venue=venue, **words), output)


@app.command()
def spreads(
    symbol: Annotated[str, typer.Argument(help="the instrument")],
    venue: Venue = None,
    session: Session = None,
    start: Start = None,
    end: End = None,
    sign: Annotated[
        str, typer.Option(help="who began a trade: side (as the venue says), quote, tick or lee_ready")
    ] = "side",
    horizon: Annotated[str, typer.Option(help="how long after a trade its realised spread is taken: 10s, 5m")] = "5m",
    book: Annotated[
        str | None, typer.Option(help="where several venues quote: nbbo, same_exec_venue or last_row")
    ] = None,
    on: Annotated[str, typer.Option(help="the clock: ts_event or ts_recv")] = "ts_event",
    strict: Annotated[bool, typer.Option("--strict", help="only quotes before a trade, none of its instant")] = False,
    per_session: Annotated[bool, typer.Option("--per-session", help="weighted means instead of trades")] = False,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """Trades with the quote beside them: mid, quoted, effective and realised spread, micro-price, imbalance."""
    words: dict[str, Any] = {"venue": venue, "session": session, "start": start, "end": end, "sign": sign}
    words |= {"horizon": horizon, "book": book, "on": on, "inclusive": not strict}
    words |= {"as_of": as_of, "known_at": known_at, "clock": clock}
    read = workbench(home).spread_summary if per_session else workbench(home).spreads
    rows(read(symbol, **words), output, limit, None if per_session else _SPREADS)


@app.command()
def turnover(
    symbol: Symbols = None,
    by: Annotated[str, typer.Option(help="what to keep apart: some of venue,symbol,session")] = "venue,symbol,session",
    venue: Venue = None,
    session: Session = None,
    start: Start = None,
    end: End = None,
    eligible: Eligible = "venue",
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """The money of trades, by multiplier and price unit of each instrument; currencies are never summed."""
    words = {"venue": venue, "session": session, "start": start, "end": end, "eligible": eligible}
    words |= {"as_of": as_of, "known_at": known_at, "clock": clock}
    rows(workbench(home).turnover(symbol, by=[name for name in by.split(",") if name], **words), output, limit)


@app.command()
def symbols(
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """The instruments, with rows and sessions of each."""
    rows(workbench(home).symbols(as_of, known_at=known_at, clock=clock), output, limit)


@app.command()
def sessions(
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """The sessions of each venue."""
    rows(workbench(home).sessions(as_of, known_at=known_at, clock=clock), output, limit)


@app.command()
def stats(as_of: AsOf = None, output: Format = Output.table, home: Home = None) -> None:
    """One row a table: rows, bytes, files, range, snapshot."""
    rows(workbench(home).stats(as_of), output, None)


@app.command()
def snapshots(
    table: Annotated[str, typer.Argument(help="trades, quotes, …")] = "trades",
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """The kept states of a table, newest first: id, time, operation, rows added, total, source, tags."""
    from k2kernel.cli.output import records

    records(workbench(home).snapshots(table)[:limit], output)


@app.command()
def sql(
    text: Annotated[str, typer.Argument(help="one SELECT over trades, quotes, …; - reads standard input")],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-P", help="NAME=TEXT for $NAME in the statement")
    ] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    clock: Clock = "ingest",
    limit: Limit = None,
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """One read-only statement; `trades FOR VERSION AS OF 'eod'` looks back in time."""
    statement = typer.get_text_stream("stdin").read() if text == "-" else text
    found = workbench(home).sql(statement, named("param", param), as_of, known_at=known_at, clock=clock)
    rows(found, output, limit)
