"""`k2 replay`, also `k2-query replay`: history as one ordered stream."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k2kernel import words
from k2kernel.cli.options import Hours, Raw, Symbols, takes, when, where, written
from k2kernel.cli.output import SHOWN, Output, frame, write
from k2kernel.cli.query import app
from k2kernel.cli.shared import say, workbench

if TYPE_CHECKING:
    import pyarrow as pa

    from k2kernel.replay import Replay
    from k2kernel.workbench import Workbench

query_app = app
"""`k2-query`, with this command in it."""

_TABLE = ["kind", "ts_event", "symbol", "venue", "price", "size", "bid_sz", "bid_px", "ask_px", "ask_sz"]
"""The columns that a table on the screen shows; every other format has all."""


@app.command()
@takes(where, when, written)
def replay(
    home: Path | None,
    limit: int | None,
    output: Output,
    symbol: Symbols = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", help=words.KINDS)] = None,
    raw: Raw = False,
    hours: Hours = "all",
    speed: Annotated[float, typer.Option(help=words.SPEED)] = 0,
    order_by: Annotated[str, typer.Option(help=words.ORDER_BY)] = "ts_event",
    ties: Annotated[str, typer.Option(help=words.TIES)] = "quotes_first",
    batch_rows: Annotated[int, typer.Option(help="events handed on at once")] = 65_536,
    position: Annotated[str | None, typer.Option(help=words.POSITION)] = None,
    digest: Annotated[bool, typer.Option("--digest", help=words.DIGEST)] = False,
    to_kafka: Annotated[
        bool, typer.Option("--to-kafka", help="publish the events, with their times in headers")
    ] = False,
    asset_class: Annotated[str | None, typer.Option(help="word of their topics' names; default: replay")] = None,
    **given: Any,
) -> None:
    """Trades and quotes of several symbols in one order; at the end, on standard error, the position to go on from."""
    bench = workbench(home)
    given |= {"raw": raw, "hours": hours, "speed": speed, "order_by": order_by, "ties": ties, "batch_rows": batch_rows}
    given |= {"position": position, "digest": digest}
    given["limit"] = SHOWN if limit is None and output is Output.table and not to_kafka else limit
    found = bench.replay(symbol or None, kind or ("trades", "quotes"), **given)
    for note in found.notes:
        say(note)
    if to_kafka:
        _publish(bench, found, asset_class)
    else:
        _write(found, output)
    ran = found.ran()
    say(f"k2: {ran.events} events, {ran.state}{f'; digest {ran.digest}' if ran.digest else ''}")
    say(f"position: {ran.position}")


def _publish(bench: Workbench, found: Replay, asset_class: str | None) -> None:
    from k2kernel.sinks.kafka import KafkaSink
    from k2kernel.wire import REPLAYED

    with bench.producer(asset_class=asset_class or REPLAYED) as producer:
        sink = KafkaSink(producer)
        found.publish(sink)
        typer.echo(str(sink.published))


def _write(found: Replay, output: Output) -> None:
    """Write the events to standard output as they come; a table when all are there."""
    batches = chain(_nothing(found), found.batches())
    if output is not Output.table:
        write(batches, output)
        return
    import pyarrow as pa

    table = pa.Table.from_batches(list(batches))
    frame(table, [name for name in _TABLE if name in table.column_names])


def _nothing(found: Replay) -> Iterator[pa.RecordBatch]:
    """An empty batch, which says the columns where there are no events."""
    import pyarrow as pa

    yield pa.RecordBatch.from_pylist([], schema=found.schema)
