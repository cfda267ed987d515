"""`k2 query`, also `k2-query`: the read verbs, each a thin door over the workbench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from k2kernel import words
from k2kernel.cli.options import (
    Adjustment,
    AsOf,
    Columns,
    Descending,
    Eligible,
    Format,
    Hours,
    Instrument,
    Limit,
    OneSession,
    Raw,
    Session,
    Sides,
    Symbols,
    Table,
    Venue,
    prevailing,
    takes,
    when,
    where,
    written,
)
from k2kernel.cli.output import Output, rows, whole
from k2kernel.cli.shared import Home, workbench

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
    descending: Descending = False,
    **given: Any,
) -> None:
    """Trades that stand, in total order."""
    given |= {"raw": raw, "hours": hours, "adjustment": adjustment, "descending": descending}
    given |= _read(columns, _TRADES, limit, output)
    rows(workbench(home).trades(symbol, **given), output, limit)


@app.command()
@takes(where, when, written)
def quotes(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Symbols = None,
    hours: Hours = "all",
    columns: Columns = None,
    descending: Descending = False,
    **given: Any,
) -> None:
    """Quotes in total order."""
    given |= {"hours": hours, "descending": descending, **_read(columns, _QUOTES, limit, output)}
    rows(workbench(home).quotes(symbol, **given), output, limit)


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
    interval: Annotated[str, typer.Argument(help=words.INTERVAL)] = "1m",
    of: Annotated[str | None, typer.Option(help=words.OF)] = None,
    eligible: Eligible = "venue",
    align: Annotated[str, typer.Option(help=words.ALIGN)] = "session",
    fill: Annotated[str | None, typer.Option(help=words.FILL)] = None,
    columns: Annotated[str | None, typer.Option(help=words.FIGURES)] = None,
    hours: Hours = "all",
    adjustment: Adjustment = "raw",
    cached: Annotated[str | None, typer.Option(help=words.CACHED)] = None,
    **given: Any,
) -> None:
    """Open, high, low, close, volume and VWAP by time, by session, or by amount."""
    given |= {"of": of, "eligible": eligible, "align": align, "fill": fill, "hours": hours, "adjustment": adjustment}
    given |= {"columns": _names(columns) if columns != "all" else columns, "cached": cached}
    rows(workbench(home).bars(symbol, interval, **given), output, limit)


@app.command()
@takes(when)
def summary(
    symbol: Instrument,
    session: OneSession,
    venue: Venue = None,
    eligible: Eligible = "venue",
    hours: Hours = "all",
    adjustment: Adjustment = "raw",
    output: Format = Output.table,
    home: Home = None,
    **given: Any,
) -> None:
    """One session of one instrument: open, high, low, close, volume, VWAP."""
    from k2kernel.cli.output import record

    given |= {"venue": venue, "eligible": eligible, "hours": hours, "adjustment": adjustment}
    record(workbench(home).summary(symbol, session, **given), output)


@app.command()
def hours(
    venue: Annotated[str, typer.Argument(help=words.VENUE)],
    session: Annotated[str, typer.Argument(help=words.SESSION)],
    output: Format = Output.table,
    home: Home = None,
) -> None:
    """When a venue trades: open, close and break of each session, in UTC."""
    whole(workbench(home).hours(venue, session).to_arrow(), output)


@app.command()
@takes(prevailing, where, when, written)
def spreads(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Instrument,
    hours: Hours = "all",
    sides: Sides = "any",
    **given: Any,
) -> None:
    """Trades with the quote beside them: mid, quoted, effective and realised spread, micro-price, imbalance."""
    rows(workbench(home).spreads(symbol, hours=hours, sides=sides, **given), output, limit, _SPREADS)


@app.command()
@takes(prevailing, when, written)
def spread_summary(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Instrument,
    venue: Venue = None,
    session: Session = None,
    hours: Hours = "all",
    eligible: Eligible = "venue",
    sides: Sides = "uncrossed",
    **given: Any,
) -> None:
    """Spreads by session, weighted by time and by volume."""
    given |= {"venue": venue, "hours": hours, "eligible": eligible, "sides": sides}
    rows(workbench(home).spread_summary(symbol, session, **given), output, limit)


@app.command()
@takes(where, when, written)
def turnover(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Symbols = None,
    by: Annotated[str, typer.Option(help="what to keep apart: some of venue,symbol,session")] = "venue,symbol,session",
    eligible: Eligible = "venue",
    **given: Any,
) -> None:
    """The money of trades, by multiplier and price unit of each instrument; currencies are never summed."""
    given |= {"by": [name for name in by.split(",") if name], "eligible": eligible}
    rows(workbench(home).turnover(symbol, **given), output, limit)


@app.command()
@takes(when, written)
def symbols(home: Path | None, limit: int | None, output: Output, **given: Any) -> None:
    """The instruments, with rows and sessions of each."""
    rows(workbench(home).symbols(**given), output, limit)


@app.command()
@takes(when, written)
def sessions(home: Path | None, limit: int | None, output: Output, **given: Any) -> None:
    """The sessions of each venue, with rows of each."""
    rows(workbench(home).sessions(**given), output, limit)


@app.command()
def stats(as_of: AsOf = None, output: Format = Output.table, home: Home = None) -> None:
    """One row a table: rows, bytes, files, range, snapshot."""
    rows(workbench(home).stats(as_of), output, None)


@app.command()
def snapshots(
    table: Table = "trades",
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
    text: Annotated[str, typer.Argument(help=f"{words.STATEMENT}; - reads standard input")],
    param: Annotated[list[str] | None, typer.Option("--param", "-P", help=f"{words.PARAMS}: NAME=TEXT")] = None,
    engine: Annotated[str | None, typer.Option(help=words.ENGINE)] = None,
    **given: Any,
) -> None:
    """One read-only statement over the lake's tables; `trades FOR VERSION AS OF 'eod'` looks back in time."""
    statement = typer.get_text_stream("stdin").read() if text == "-" else text
    rows(workbench(home).sql(statement, words.by_name("param", param), engine=engine, **given), output, limit)
