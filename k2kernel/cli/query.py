"""`k2 query`, also `k2-query`: the read verbs, each a thin door over the workbench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from k2kernel.cli.options import (
    Adjustment,
    AsOf,
    Columns,
    Eligible,
    Format,
    Hours,
    Instrument,
    Limit,
    Raw,
    Symbols,
    Venue,
    takes,
    when,
    where,
    written,
)
from k2kernel.cli.output import Output, frame, rows, write
from k2kernel.cli.shared import Home, named, workbench

app = typer.Typer(
    help="Trades, quotes, bars, summaries, SQL and what there is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_TRADES = ["ts_event", "symbol", "venue", "price", "size", "side", "conditions"]
_QUOTES = ["ts_event", "symbol", "venue", "bid_sz", "bid_px", "ask_px", "ask_sz", "conditions"]
_SNAPSHOT = (
    *("id", "committed_at", "operation", "rows_added", "rows_total", "tags", "is_current_ancestor", "parent_id"),
    "source",
)
_SPREADS = ["ts_event", "price", "size", "sign", "bid_px", "ask_px", "mid", "effective_spread", "realised_spread"]
"""The columns that a table on the screen shows; every other format has all."""


@app.command()
@takes(where, when, written)
def trades(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Symbols = None,
    raw: Raw = False,
    hours: Hours = "all",
    adjustment: Adjustment = "raw",
    columns: Columns = None,
    **words: Any,
) -> None:
    """Trades that stand, in total order."""
    words |= {"raw": raw, "hours": hours, "adjustment": adjustment, **_read(columns, _TRADES, limit, output)}
    rows(workbench(home).trades(symbol, **words), output, limit)


@app.command()
@takes(where, when, written)
def quotes(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Symbols = None,
    hours: Hours = "all",
    columns: Columns = None,
    **words: Any,
) -> None:
    """Quotes in total order."""
    words |= {"hours": hours, **_read(columns, _QUOTES, limit, output)}
    rows(workbench(home).quotes(symbol, **words), output, limit)


def _read(columns: str | None, short: list[str], limit: int | None, output: Output) -> dict[str, Any]:
    """Which columns and how many rows are read; a table on the screen has few."""
    return {"columns": _names(columns) or (short if output is Output.table else None), "limit": output.limit(limit)}


def _names(columns: str | None) -> list[str] | None:
    """Names joined by commas."""
    return [name.strip() for name in columns.split(",")] if columns else None


@app.command()
@takes(where, when, written)
def bars(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Instrument,
    interval: Annotated[
        str, typer.Argument(help="1s, 5m, 1h, 1d, session, tick:1000, volume:50000, dollar:1e6")
    ] = "1m",
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
    cached: Annotated[
        str | None, typer.Option(help="merge kept bars of this interval (wb.materialise_bars), such as 1m")
    ] = None,
    **words: Any,
) -> None:
    """Open, high, low, close, volume and VWAP by time, by session, or by amount."""
    words |= {"of": of, "eligible": eligible, "align": align, "fill": fill, "hours": hours, "adjustment": adjustment}
    words |= {"columns": _names(columns) if columns != "all" else columns, "cached": cached}
    rows(workbench(home).bars(symbol, interval, **words), output, limit)


@app.command()
@takes(when)
def summary(
    symbol: Instrument,
    session: Annotated[str, typer.Argument(help="trading date at the venue, YYYY-MM-DD")],
    venue: Venue = None,
    eligible: Eligible = "venue",
    hours: Hours = "all",
    adjustment: Adjustment = "raw",
    output: Format = Output.table,
    home: Home = None,
    **words: Any,
) -> None:
    """One session of one instrument: open, high, low, close, volume, VWAP."""
    from k2kernel.cli.output import record

    words |= {"venue": venue, "eligible": eligible, "hours": hours, "adjustment": adjustment}
    record(workbench(home).summary(symbol, session, **words), output)


@app.command()
def hours(
    venue: Annotated[str, typer.Argument(help="its code, such as XASX")],
    session: Annotated[str, typer.Argument(help="a trading date, or first..last")],
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """When a venue trades: open, close and break of each session, in UTC."""
    found = workbench(home).hours(venue, session).to_arrow()
    if output is Output.table:
        frame(found)
    else:
        write(found.combine_chunks().to_batches(), output)


@app.command()
@takes(where, when, written)
def spreads(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Instrument,
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
    **words: Any,
) -> None:
    """Trades with the quote beside them: mid, quoted, effective and realised spread, micro-price, imbalance."""
    words |= {"sign": sign, "horizon": horizon, "book": book, "on": on, "inclusive": not strict}
    read = workbench(home).spread_summary if per_session else workbench(home).spreads
    rows(read(symbol, **words), output, limit, None if per_session else _SPREADS)


@app.command()
@takes(where, when, written)
def turnover(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Symbols = None,
    by: Annotated[str, typer.Option(help="what to keep apart: some of venue,symbol,session")] = "venue,symbol,session",
    eligible: Eligible = "venue",
    **words: Any,
) -> None:
    """The money of trades, by multiplier and price unit of each instrument; currencies are never summed."""
    words |= {"by": [name for name in by.split(",") if name], "eligible": eligible}
    rows(workbench(home).turnover(symbol, **words), output, limit)


@app.command()
@takes(when, written)
def symbols(home: Path | None, limit: int | None, output: Output, **words: Any) -> None:
    """The instruments, with rows and sessions of each."""
    rows(workbench(home).symbols(**words), output, limit)


@app.command()
@takes(when, written)
def sessions(home: Path | None, limit: int | None, output: Output, **words: Any) -> None:
    """The sessions of each venue."""
    rows(workbench(home).sessions(**words), output, limit)


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

    records(workbench(home).snapshots(table)[:limit], output, _SNAPSHOT)


@app.command()
@takes(when, written)
def sql(
    home: Path | None,
    limit: int | None,
    output: Output,
    text: Annotated[str, typer.Argument(help="one SELECT over trades, quotes, …; - reads standard input")],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-P", help="NAME=TEXT for $NAME in the statement")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="duckdb or spark; default: K2_ENGINE")] = None,
    **words: Any,
) -> None:
    """One read-only statement; `trades FOR VERSION AS OF 'eod'` looks back in time."""
    statement = typer.get_text_stream("stdin").read() if text == "-" else text
    rows(workbench(home).sql(statement, named("param", param), engine=engine, **words), output, limit)
