"""Producers and streams as the settings say: where the brokers and the registry are, and what a topic is named."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter

if TYPE_CHECKING:
    from k2kernel.config import Settings
    from k2kernel.ingest import Progress
    from k2kernel.ingest.publish import Sent
    from k2kernel.ingest.stream import Stream
    from k2kernel.lake import Lake
    from k2kernel.profiles import Profile
    from k2kernel.query import Result
    from k2kernel.sinks.kafka import Producer


def open_producer(settings: Settings, *, asset_class: str | None = None, **words: Any) -> Producer:
    """A producer, to be used in a `with`; `words` are its `partitions` (of a new topic), `compression` (lz4 or zstd)
    and `timeout` (seconds).

    Topics are `market.<asset class>.<kind>.<venue>`; without `asset_class` it is the venue's own. Rows that are not
    delivered in time end in a file under `undelivered` in the lake's home.
    """
    from k2kernel.calendars import venue
    from k2kernel.sinks.kafka import Producer
    from k2kernel.wire import Registry

    bootstrap, registry_url = services(settings)
    return Producer(
        bootstrap,
        Registry(registry_url),
        asset_class=asset_class or (lambda code: venue(code, settings.home).asset_class or "other"),
        register=settings.schema_register,
        undelivered=settings.home / "undelivered",
        **words,
    )


def produce(
    settings: Settings,
    lake: Lake | None,
    files: Iterable[Path],
    profile: Profile,
    *,
    options: Mapping[str, str] | None = None,
    max_rejects: float = 0.01,
    progress: bool | Progress = False,
    **words: Any,
) -> list[Sent]:
    """Publish files by a profile, with the `options` that it asks for; `words` are those of `open_producer`.

    FileFault, and nothing of the file published, where it cannot be decoded or more than `max_rejects` (0 to 1) of its
    lines are bad. `progress=True` shows a bar.
    """
    from k2kernel import ingest
    from k2kernel.ingest.publish import publish_file

    wanted = ingest.Options(options or {}, max_rejects=max_rejects)
    bar = ingest.ProgressBar() if progress is True else nullcontext(progress or ingest.silent)
    with bar as tell, open_producer(settings, **words) as producer:
        return [publish_file(lake, settings.home, path, profile, producer, wanted, tell) for path in files]


def open_stream(
    lake: Lake,
    topics: Sequence[str] | None = None,
    *,
    group: str | None = None,
    rows: int = 500_000,
    nbytes: int = 64 * 1024 * 1024,
    seconds: float = 10.0,
    bad: str = "dead_letter",
    gaps: str | None = None,
) -> Stream:
    """Topics (None: every `market.*` one) into the lake, exactly once: `Stream`, whose `run` or `start` begins it.

    A batch is committed after `rows`, `nbytes` or `seconds`, whichever comes first. `bad` messages are kept in
    `dead_letter`, left out (`skip`), or stop the stream (`suspend`). Streams of one `group` share the partitions.

    `gaps` says what the sequence numbers of these topics count: the rows of one `instrument` of a partition, or of a
    whole partition (`source`). What is missing, late or there twice, and where numbers begin again, is then told in
    the table `gaps`.
    """
    from k2kernel.ingest.stream import Bad, How, Stream
    from k2kernel.ingest.watch import SCOPES

    if bad not in list(Bad):
        raise InvalidParameter("bad", bad, f"is none of {', '.join(Bad)}")
    if gaps is not None and gaps not in SCOPES:
        raise InvalidParameter("gaps", gaps, f"is none of {', '.join(SCOPES)}")
    how = How(rows, nbytes, seconds, Bad(bad), gaps)
    return Stream(lake, *services(lake.settings), topics, group=group, how=how)


def read_tail(
    lake: Lake, table: str, symbol: str | Sequence[str] | None, tail: bool | Sequence[str], words: Mapping[str, Any]
) -> Result:
    """Rows of a table as it is now and, past the offsets that it has, of the topics (`tail`: True for those that it has
    rows of, or a list): each row once, in the total order. `words` are those of the engine's verb.

    What the topics held when this was called is read into a file that goes with the result. StreamFault where brokers
    do not answer or have deleted what was not read.
    """
    from k2kernel.ingest.tail import FreshLake, Tail
    from k2kernel.query import QueryEngine

    for name in ("as_of", "known_at"):
        if words.get(name) is not None:
            raise InvalidParameter(name, words[name], "is given with tail", "What is not in the table yet has no state")
    head = lake.head(table)
    topics = None if tail is True else list(tail or ())
    fresh = FreshLake(lake, table, head, Tail(lake, *services(lake.settings), {table: head}, topics))
    engine = QueryEngine(fresh)
    verb = engine.trades if table == "trades" else engine.quotes
    try:
        found = verb(symbol, **{**words, "as_of": None if head is None else head})
    except BaseException:
        fresh.close()
        raise
    weakref.finalize(found, fresh.close)
    return found


def services(settings: Settings) -> tuple[str, str]:
    """The brokers and the registry; InvalidParameter where one is not set."""
    found = {"kafka_bootstrap": settings.kafka_bootstrap, "schema_registry_url": settings.schema_registry_url}
    for name, value in found.items():
        if value is None:
            remedy = f"Set K2_{name.upper()}; `k2 services up` starts both and says how"
            raise InvalidParameter(name, None, "is not set", remedy)
    return str(settings.kafka_bootstrap), str(settings.schema_registry_url)
