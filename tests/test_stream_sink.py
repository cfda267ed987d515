"""A stream from day to day: bad messages, stops, limits, groups, a registry that is away, audits and retries."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer

from k2kernel import wire
from k2kernel.errors import InvalidParameter, StreamFault
from k2kernel.ingest.deliver import Batch, Delivery, read_parts
from k2kernel.ingest.letters import Retried
from k2kernel.metrics import METRICS
from k2kernel.schemas import QUOTES, TRADES
from k2kernel.services import Registry
from k2kernel.sources.brokers import held
from k2kernel.sources.kafka import KafkaSource
from tests.feeds import Feed, k2, trades, wait_for
from tests.streams import Services, fresh_class, need_servers


def bad_messages(feed: Feed) -> dict[str, bytes]:
    """One message of each way to be no row."""
    with wire.Registry(feed.services.registry_url) as registry:
        number = registry.register(feed.topic, TRADES.avro)
        other = registry.register(f"market.{feed.asset_class}.quotes.xasx", QUOTES.avro)
    (good,) = wire.encode(TRADES.avro, trades([7]), number)
    (odd_side,) = wire.encode(TRADES.avro, trades([8]).with_columns(side=pl.lit("sideways")), number)
    # The price is the one decimal of eight bytes before the size: -1.00000000 and 19 digits.
    (large,) = wire.encode(TRADES.avro, trades([100]), number)
    price = (100_000_000).to_bytes(8, "big")
    assert large.count(price) == 2
    return {
        "frame": b"{}",
        "schema": b"\0\0\1\1\1" + good[5:],
        "decode": good[:-3],
        "value side": odd_side,
        "value price": large.replace(price, (2 * 10**18).to_bytes(8, "big"), 1),
        "kind": b"\0" + other.to_bytes(4, "big") + good[5:],
    }


def test_only_the_bad_message_goes_to_dead_letter(feed: Feed) -> None:
    feed.publish(200)
    bad = bad_messages(feed)
    feed.spoil(bad.values())
    feed.publish(100)
    done = feed.bench.stream([feed.topic], rows=50).run(until_end=True)
    assert (done.rows, done.rejected) == ({"trades": 300}, len(bad))
    feed.check()
    letters = {row["raw"]: row for row in feed.bench.dead_letters().all().iter_rows(named=True)}
    reasons = {name: (letters[raw]["error"], letters[raw]["reason"]) for name, raw in bad.items()}
    assert {name: error for name, (error, _) in reasons.items()} == {
        "frame": "frame",
        "schema": "schema",
        "decode": "decode",
        "value side": "value",
        "value price": "value",
        "kind": "schema",
    }
    assert reasons["value side"][1] == "side is none of buy, sell"
    assert reasons["value price"][1] == "price has more than 18 digits"
    assert "of quotes, and the topic is for trades" in reasons["kind"][1]
    assert all(row["source"].startswith(f"{feed.topic}/") for row in letters.values())
    assert set(letters[bad["decode"]]) >= {"schema_id", "attempt", "target"}


BEYOND = {
    "session is not in the years 1900 to 2261": {"session": pl.lit(2**31 - 1, pl.Int32).cast(pl.Date)},
    "ts_event is not in the years 1900 to 2261": {"ts_event": pl.lit(2**63 - 1).cast(pl.Datetime("us", "UTC"))},
    "ts_recv is not in the years 1900 to 2261": {"ts_recv": pl.lit(-(2**62)).cast(pl.Datetime("us", "UTC"))},
    "ts_event_ns is not the instant of ts_event": {"ts_event_ns": pl.col("ts_event").dt.epoch("ns") + 1_000},
    "symbol is empty": {"symbol": pl.lit("")},
}


def test_values_that_no_table_can_hold_are_kept_apart(feed: Feed) -> None:
    """They are valid Avro: a sink that tripped over them would trip again at each start."""
    feed.publish(20)
    with wire.Registry(feed.services.registry_url) as registry:
        number = registry.register(feed.topic, TRADES.avro)
    for change in BEYOND.values():
        feed.spoil(wire.encode(TRADES.avro, trades([99]).with_columns(**change), number))
    within = {"ts_event_ns": pl.col("ts_event").dt.epoch("ns") + 999}
    good = wire.encode(TRADES.avro, trades([20]).with_columns(**within), number)
    feed.spoil(good)
    feed.bad.remove(good[0])
    feed.sent += 1
    feed.drain()
    feed.check()
    letters = feed.bench.dead_letters().all()
    assert sorted(letters["reason"]) == sorted(BEYOND)
    assert set(letters["error"]) == {"value"}


def test_messages_without_a_value_are_kept_apart(feed: Feed) -> None:
    feed.publish(20)
    feed.spoil([b"", None])
    feed.drain()
    assert feed.sequences() == list(range(20))
    letters = feed.bench.dead_letters().all()
    assert sorted(letters["raw"].to_list(), key=str) == [None, b""]
    assert set(letters["reason"]) == {"is not framed: no magic byte and schema id"}
    assert feed.bench.audit().ok


def test_a_bad_message_is_skipped_or_suspends(feed: Feed) -> None:
    feed.publish(40)
    feed.spoil([b"noise"])
    with pytest.raises(StreamFault, match=r"is not framed.*Its batch was not committed"):
        feed.bench.stream([feed.topic], bad="suspend").run(until_end=True)
    assert feed.sequences() == []
    done = feed.bench.stream([feed.topic], bad="skip").run(until_end=True)
    assert (done.messages, done.rejected) == (41, 1)
    assert feed.sequences() == list(range(40))
    assert feed.bench.dead_letters().all().is_empty()
    assert feed.bench.audit().ok
    with pytest.raises(InvalidParameter, match="bad='ignore'"):
        feed.bench.stream([feed.topic], bad="ignore")


def retry(feed: Feed) -> Retried:
    letters = feed.bench.dead_letters()
    return letters.retry(feed.services.registry_url, letters.open())


def test_a_retry_restores_once_and_a_drop_lets_go(feed: Feed) -> None:
    """Messages whose schema was not registered yet become rows when it is."""
    feed.publish(30)
    fields = [*TRADES.avro["fields"], {"name": "note", "type": ["null", "string"], "default": None}]
    grown = {**TRADES.avro, "fields": fields, "doc": f"{feed.asset_class} grown"}
    frame = trades([30, 31]).with_columns(note=pl.lit("late"))
    with wire.Registry(feed.services.registry_url) as registry:
        # Ids are given out one after another: the next one will be the grown schema's.
        ahead = 1 + registry.register(f"{feed.topic}-a", {**TRADES.avro, "doc": feed.asset_class})
    feed.spoil([*wire.encode(grown, frame, ahead), b"hopeless"])
    feed.drain()
    assert len(feed.bench.dead_letters().open()) == 3
    assert str(retry(feed)) == "nothing restored; 3 still bad"
    with wire.Registry(feed.services.registry_url) as registry:
        assert registry.register(f"{feed.topic}-b", grown) == ahead
    listed = k2(feed, "stream", "dead-letter", "list", "-o", "csv")
    assert listed.stdout.count(feed.topic) == 3, listed.stderr
    again = k2(feed, "stream", "dead-letter", "retry")
    assert (again.exit_code, again.stdout.strip()) == (1, "2 restored to trades; 1 still bad")
    assert str(retry(feed)) == "nothing restored; 1 still bad"
    assert feed.sequences() == list(range(32))
    (left,) = feed.bench.dead_letters().open().iter_rows(named=True)
    shown = k2(feed, "stream", "dead-letter", "show", left["source"], str(left["source_offset"]))
    lines = dict(line.split(None, 1) for line in shown.stdout.splitlines() if " " in line)
    assert (lines["raw"], lines["text"]) == (b"hopeless".hex(" "), "hopeless")
    assert k2(feed, "stream", "dead-letter", "drop").exit_code == 2, "a choice is asked for"
    assert k2(feed, "stream", "dead-letter", "drop", "--error", "frame").stdout.strip() == "1 dropped"
    assert feed.bench.dead_letters().open().is_empty()
    assert feed.bench.dead_letters().all()["state"].to_list().count("retried") == 2
    verdict = feed.bench.audit()
    assert verdict.ok, verdict.faults
    feed.drain()
    assert feed.sequences() == list(range(32))


def test_a_stop_takes_less_than_a_second_and_handlers_stay(feed: Feed) -> None:
    feed.publish(100)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stream = feed.bench.stream([feed.topic], seconds=0.2).start()
    wait_for(lambda: stream.done.messages == 100)
    time.sleep(0.3)  # idle
    began = time.monotonic()
    done = stream.stop()
    assert time.monotonic() - began < 1
    assert done.messages == 100
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("k2-stream")]
    feed.check()


def test_exactly_as_many_messages_as_asked_for(feed: Feed) -> None:
    feed.publish(500, bad=3)
    assert feed.bench.stream([feed.topic], rows=40).run(max_messages=123).messages == 123
    assert len(feed.sequences()) + len(feed.bench.dead_letters().all()) == 123
    told = k2(feed, "stream", "sink", feed.topic, "--max-messages", "77")
    assert told.stdout.startswith("77 messages in 1 batch: "), told.stderr
    assert told.stdout.endswith("; 303 behind\n")
    assert "UTC: 0 messages; 380 behind" in told.stderr
    assert len(feed.sequences()) + len(feed.bench.dead_letters().all()) == 200
    feed.drain()
    feed.check()


def test_the_command_line_from_file_to_audit(feed: Feed, tmp_path: Path) -> None:
    from k2kernel.sample import generate

    files = [str(path) for path in generate(tmp_path / "files", rows=3_000, sessions=1, symbols=6)]
    words = ["--asset-class", feed.asset_class, "--partitions", "2"]
    for kind in ("trades", "quotes"):
        chosen = [path for path in files if Path(path).name.startswith(kind)]
        told = k2(feed, "stream", "produce", *chosen, "--profile", f"k2-{kind}", *words)
        assert told.exit_code == 0, told.stderr
        assert f"market.{feed.asset_class}.{kind}." in told.stdout
    lines = sum(len(Path(path).read_text().splitlines()) - 1 for path in files if "instruments" not in path)
    topics = sorted({topic for topic, _ in held(feed.services.bootstrap, []) if f".{feed.asset_class}." in topic})
    assert behind(feed, topics) == lines
    sunk = k2(feed, "stream", "sink", *topics, "--until-end")
    assert sunk.stdout.startswith(f"{lines:,} messages in"), sunk.stderr
    audit = k2(feed, "stream", "audit", "-o", "csv")
    assert audit.exit_code == 0, audit.stderr
    assert "exactly once: " in audit.stderr
    assert behind(feed, topics) == 0


def behind(feed: Feed, topics: list[str]) -> int:
    """What the command says that the lake lacks of these topics."""
    told = k2(feed, "stream", "status", *topics, "-o", "csv")
    assert told.exit_code == 0, told.stderr
    return int(pl.read_csv(told.stdout.encode())["behind"].sum())


def test_a_slow_table_keeps_no_more_than_a_batch_waiting(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overload is left with the brokers; nothing of it is lost."""
    feed.publish(2_000, bad=3)
    stream = feed.bench.stream([feed.topic], rows=100)
    waiting: list[int] = []
    commit = Delivery.commit

    def slow(self: Delivery, *words: Any) -> Any:
        time.sleep(0.3)
        waiting.append(stream._batch.rows)
        return commit(self, *words)

    monkeypatch.setattr(Delivery, "commit", slow)
    done = stream.run(until_end=True)
    assert done.messages == 2_003
    assert max(waiting) == 100
    feed.check()


@pytest.fixture
def own_registry(services: Services, tmp_path: Path) -> Iterator[Registry]:
    need_servers()
    registry = Registry(tmp_path / "registry").start()
    yield registry
    registry.stop()


def test_a_registry_that_is_away_keeps_rows_waiting(services: Services, own_registry: Registry, tmp_path: Path) -> None:
    feed = Feed(Services(services.bootstrap, own_registry.url), tmp_path / ".k2")
    feed.publish(200)
    own_registry.stop()
    stream = feed.bench.stream([feed.topic], rows=50, seconds=0.1).start()
    time.sleep(3)
    began = time.monotonic()
    assert stream.stop().messages == 0
    assert time.monotonic() - began < 1
    stream = feed.bench.stream([feed.topic], rows=50, seconds=0.1).start()
    time.sleep(1)
    own_registry.start()
    wait_for(lambda: stream.done.messages == 200)
    stream.stop()
    feed.check()


def test_a_registry_that_is_away_while_a_batch_is_decoded_ahead(
    services: Services, own_registry: Registry, tmp_path: Path
) -> None:
    """Parts of the batch that waits were decoded, others could not be: all of them are, once it is back."""
    feed = Feed(Services(services.bootstrap, own_registry.url), tmp_path / ".k2")
    feed.publish(2_000, bad=9)
    stream = feed.bench.stream([feed.topic], rows=4_000, seconds=4).start()
    wait_for(lambda: METRICS.stream_buffered.series[()][0] == 2_009)
    own_registry.stop()
    feed.spoil([b"\0\0\1\1\1 of a schema that nobody knows yet"])
    wait_for(lambda: METRICS.stream_held.series[()][0] == 1)
    assert stream.done.messages == 0
    own_registry.start()
    wait_for(lambda: stream.done.messages == 2_010)
    assert stream.stop().batches == 1
    feed.check()


def test_members_of_a_group_come_and_go(feed: Feed) -> None:
    feed.publish(2_000, bad=5)
    group = fresh_class("g")
    words = {"group": group, "seconds": 0.1, "rows": 200}
    first = feed.bench.stream([feed.topic], **words).start()
    wait_for(lambda: first.done.messages > 0)
    second = feed.bench.stream([feed.topic], **words).start()
    feed.publish(2_000, bad=5)
    time.sleep(2)
    first.stop()
    feed.publish(2_000, bad=5)
    wait_for(lambda: len(feed.sequences()) == feed.sent and len(feed.bench.dead_letters().all()) == len(feed.bad))
    assert second.stop().messages > 0
    feed.check()


def test_what_was_decoded_of_a_partition_that_went_elsewhere_is_forgotten(feed: Feed) -> None:
    """Its other member has those rows now: to commit them here, too, would double them."""
    batch = Batch()
    with wire.Registry(feed.services.registry_url) as registry, ThreadPoolExecutor(1) as pool:
        number = registry.register(feed.topic, TRADES.avro)
        for partition in range(2):
            values = wire.encode(TRADES.avro, trades(range(10 * partition, 10 * partition + 10)), number)
            run = pl.DataFrame({"source_offset": range(10), "raw": values})
            batch.add((feed.topic, partition), run)
        batch.read_ahead(lambda parts: pool.submit(read_parts, parts, registry))
        assert batch.found()["trades"].rows["sequence"].to_list() == [*range(20)]
        assert batch.drop((feed.topic, 0)) == 10
        batch.read_ahead(lambda parts: pool.submit(read_parts, parts, registry))
        assert batch.found()["trades"].rows["sequence"].to_list() == [*range(10, 20)]


def test_a_topic_that_was_made_anew_is_not_read_on(feed: Feed) -> None:
    """Its first messages are below the table's end, and would be passed over for ever."""
    feed.publish(30)
    feed.drain()
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": feed.services.bootstrap})
    admin.delete_topics([feed.topic], operation_timeout=30)[feed.topic].result(30)
    wait_for(lambda: feed.topic not in admin.list_topics(timeout=10).topics)
    feed.publish(200)
    with pytest.raises(StreamFault, match=r"is another one than that of which offsets 0 to \d+ are in the lake"):
        feed.drain()
    with pytest.raises(StreamFault, match="It was made anew"):
        feed.bench.trades(tail=True)
    assert feed.sequences() == list(range(30))


def test_a_stream_that_fails_in_its_thread_says_so_at_once(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    feed.publish(10)
    feed.spoil([b"noise"])
    stream = feed.bench.stream([feed.topic], bad="suspend", seconds=0.1).start()
    wait_for(lambda: "failed" in repr(stream))
    assert "is not framed" in caplog.text
    with pytest.raises(StreamFault, match="is not framed"):
        stream.stop()
    assert feed.sequences() == []


def test_a_source_that_goes_back_is_not_at_its_end(feed: Feed) -> None:
    """As after a commit that met another one, or no room on the disk: what is read again is waited for again."""
    feed.publish(20)
    with KafkaSource(feed.services.bootstrap, [feed.topic], dict.fromkeys, lambda _: None) as source:
        for _ in range(2):
            read = 0
            while not source.at_end():
                read += sum(len(run) for _, run in source.fetch(100, 0.1))
            assert read == 20
            source.seek(dict.fromkeys(source.partitions, 0))


def test_offsets_that_have_no_message_are_left_out(feed: Feed) -> None:
    """A transaction ends with a marker, which has an offset of its own."""
    feed.publish(30)
    with wire.Registry(feed.services.registry_url) as registry:
        number = registry.register(feed.topic, TRADES.avro)
    values = wire.encode(TRADES.avro, trades(range(30, 60)), number)
    _, first = held(feed.services.bootstrap, [feed.topic])[feed.topic, 0]
    raw = Producer({"bootstrap.servers": feed.services.bootstrap, "transactional.id": feed.asset_class})
    raw.init_transactions()
    for part in (values[:10], values[10:20], values[20:]):
        raw.begin_transaction()
        for value in part:
            raw.produce(feed.topic, value, partition=0)
        raw.commit_transaction()
    feed.bench.stream([feed.topic]).run(until_end=True)
    asked = "SELECT source_offset FROM trades_raw WHERE sequence >= 30 ORDER BY sequence"
    found = feed.bench.sql(asked).to_arrow()[0].to_pylist()
    assert found == [first + at + at // 10 for at in range(30)]
    assert feed.sequences() == list(range(60))


def test_what_is_missing_is_said(feed: Feed) -> None:
    import k2kernel as k2kernel_root

    with pytest.raises(StreamFault, match="does not exist"):
        feed.bench.stream(["market.none.trades.xasx"]).run(until_end=True)
    with pytest.raises(InvalidParameter, match="Set K2_KAFKA_BOOTSTRAP"):
        k2kernel_root.connect(feed.home).stream()
