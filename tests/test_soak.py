"""A sink at full load: what `make soak` does in half an hour, for three minutes; and what it calls growth."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import Soak, soak
from tests.streams import need_servers

MEASURED = [390.0, 423, 400, 428, 463, 445, 501, 486, 488, 483, 499, 469, 500, 493]
"""What a sink held at its rests, in MB: its allocators have what they will keep after the first dozens of batches."""


def test_growth_is_told_from_what_goes_up_and_down() -> None:
    assert Soak(rests=MEASURED).steady
    odd = [*MEASURED[:-1], 900.0]
    assert Soak(rests=odd).steady, "a single rest that was none"
    for leak in (5, 20):  # MB from one rest to the next
        growing = Soak(rests=[held + leak * number for number, held in enumerate(MEASURED)])
        assert not growing.steady
        assert growing.growth == pytest.approx(7 * leak, abs=15)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_a_sink_at_full_load_loses_nothing_and_holds_little(tmp_path: Path) -> None:
    """Three minutes are for warming up: whether memory grows after that is for `make soak` to say."""
    need_servers()
    found = soak(tmp_path, 180)
    assert max(found.rests) < 800, str(found)
    assert found.verdict.startswith("exactly once"), str(found)
    assert found.rows > 1_000_000
    assert found.kills == 3
    assert not found.faults, str(found)
    assert set(found.beside) == {"maintain", "ask", "replay_again", "outage"}
