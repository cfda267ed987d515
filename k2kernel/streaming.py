"""Producers and streams as the settings say: where the brokers and the registry are, and what a topic is named."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, one_of
from k2kernel.schemas import KINDS

if TYPE_CHECKING:
    from k2kernel.config import Settings
    from k2kernel.ingest import Progress
    from k2kernel.ingest.publish import Sent
    from k2kernel.ingest.stream import Stream
    from k2kernel.lake import Claim, Lake
    from k2kernel.profiles import Profile
    from k2kernel.query import Result
    from k2kernel.sinks.kafka import Producer, Published


@dataclass(frozen=True)
class Position:
    """How far a table has a partition (`source`, topic/number): from `start` to before `end` (None: nothing of it), by
    the last commit of `writer`. The brokers hold messages before `latest`, so it is so many `behind`; None where no
    brokers are set.
    """

    table: str
    source: str
    start: int | None
    end: int | None
    latest: int | None
    behind: int | None
    writer: str | None


def positions(lake: Lake | None, settings: Settings) -> list[Position]:
    """How far the tables have each partition that they have something of, or that a stream would find something in.

    StreamFault where brokers are set and do not answer.
    """
    claims = {each.source: each for kind in KINDS if lake is not None for each in lake.offsets(kind).values()}
    there = {}
    if settings.kafka_bootstrap is not None:
        from k2kernel.sources.brokers import held

        topics = {source.rpartition("/")[0] for source in claims}
        there = {f"{topic}/{number}": ends for (topic, number), ends in held(settings.kafka_bootstrap, topics).items()}
    used = {*claims, *(source for source, (_, latest) in there.items() if latest)}
    return [_position(source, claims.get(source), there.get(source)) for source in sorted(used)]


def _position(source: str, claim: Claim | None, there: tuple[int, int] | None) -> Position:
    from k2kernel.wire import Topic

    table = Topic.parse(source.rpartition("/")[0]).kind
    start, end, writer = (None, None, None) if claim is None else (claim.start, claim.end, claim.writer)
    if there is None:
        return Position(table, source, start, end, None, None, writer)
    low, latest = there
    return Position(table, source, start, end, latest, max(0, latest - (low if end is None else end)), writer)


def register(settings: Settings, topics: Iterable[str]) -> dict[str, int]:
    """Register the schema of each topic's messages, and return their ids: what producers that may not do it ask for.

    StreamFault where it is not compatible with those that are registered.
    """
    from k2kernel.schemas import TABLES
    from k2kernel.wire import Registry, Topic

    with Registry(services(settings)[1]) as registry:
        return {topic: registry.register(topic, TABLES[Topic.parse(topic).kind].avro) for topic in topics}


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
    with ingest.shown(progress) as tell, open_producer(settings, **words) as producer:
        publish = partial(publish_file, lake, settings.home, options=wanted, progress=tell)
        return [publish(path, profile, producer) for path in files]


def resend(settings: Settings, files: Iterable[Path], *, progress: bool | Progress = False) -> Published:
    """Publish the rows of `undelivered` files again, apart from those that have arrived after all.

    FileFault where one is no such file. `progress=True` shows a bar.
    """
    from k2kernel import ingest
    from k2kernel.ingest.publish import deliver

    with ingest.shown(progress) as tell, open_producer(settings) as producer:
        for path in files:
            producer.resend(path)
        return deliver(producer, "what was kept", tell)


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

    counted = None if gaps is None else one_of("gaps", gaps, SCOPES)
    how = How(rows, nbytes, seconds, Bad(one_of("bad", bad, Bad)), counted)
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
            remedy = f"Set K2_{name.upper()}; `k2 services up` starts brokers and registry and says how"
            raise InvalidParameter(name, None, "is not set", remedy)
    return str(settings.kafka_bootstrap), str(settings.schema_registry_url)
