"""Streams from a notebook: so many messages, the rest, an interrupt, and the proof."""

from __future__ import annotations

import dataclasses
import signal
import threading
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

import k2kernel as k2
from k2kernel.sample import generate
from tests.streams import Services, fresh_class


def test_topics_are_taken_in_by_a_line(services: Services, tmp_path: Path) -> None:
    bench = k2.connect(settings=services.settings(tmp_path / ".k2")).init()
    file = generate(tmp_path, rows=1_000, sessions=1, symbols=1, kinds=("trades",))[0]
    (sent,) = bench.produce(file, "k2-trades", asset_class=fresh_class(), partitions=1)
    (topic,) = sent.published.delivered
    shell = InteractiveShell()
    shell.user_ns |= {"wb": bench, "topic": topic}
    shell.run_line_magic("load_ext", "k2kernel")

    def stream(words: str) -> object:
        return shell.run_line_magic("k2", f"stream {words}")

    def position() -> tuple[object, ...]:
        found = stream("status $topic")
        assert isinstance(found, list)
        ((table, source, *ends, _),) = map(dataclasses.astuple, found)
        assert (table, source) == ("trades", f"{topic}/0")
        return tuple(ends)

    assert position() == (None, None, 1_000, 1_000)
    assert "7 messages in 1 batch: 7 rows into trades; 993 behind" in str(stream("sink $topic --max-messages 7"))
    assert position() == (0, 7, 1_000, 993)
    assert "993 messages" in str(stream("sink $topic --until-end"))
    assert bench.trades(raw=True).count() == 1_000
    timer = threading.Timer(3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    assert "0 messages" in str(stream("sink $topic"))
    timer.join()
    assert str(stream("audit")).startswith("exactly once: 1,000 rows")
