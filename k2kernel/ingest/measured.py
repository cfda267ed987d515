"""What the metrics learn of a load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from k2kernel.ingest.receipt import Receipt
from k2kernel.metrics import METRICS


@contextmanager
def measured() -> Iterator[Callable[[Receipt], Receipt]]:
    """Count a load while the block runs, and how it ends: the block gives its receipt to what this yields."""
    outcome = "failed"

    def told(receipt: Receipt) -> Receipt:
        nonlocal outcome
        outcome = "loaded" if receipt.rows or receipt.rejected else "duplicate"
        _count(receipt)
        return receipt

    try:
        with METRICS.ingest_running.track_inprogress(), METRICS.ingest_seconds.time():
            yield told
    finally:
        METRICS.ingest_files.labels(outcome).inc()


def _count(receipt: Receipt) -> None:
    for table, part in receipt.tables.items():
        METRICS.ingest_rows.labels(table).inc(part.rows)
        METRICS.ingest_duplicates.labels(table).inc(part.duplicate)
    METRICS.ingest_lines.inc(receipt.lines)
    METRICS.ingest_rejected.inc(receipt.rejected)
    METRICS.ingest_skipped.inc(sum(receipt.skipped.values()))
    METRICS.ingest_last.set(time.time())
