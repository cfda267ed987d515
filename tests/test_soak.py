"""A sink at full load: what `make soak` does in half an hour, for three minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.streams import need_servers


@pytest.mark.long
@pytest.mark.timeout(600)
def test_memory_of_a_sink_at_full_load_does_not_grow(tmp_path: Path) -> None:
    need_servers()
    from benchmarks.soak import soak

    found = soak(tmp_path, 180)
    assert found.steady, str(found)
    assert found.verdict.startswith("exactly once"), str(found)
    assert found.rows > 1_000_000
    assert found.kills == 3
    assert not found.faults, str(found)
    assert set(found.beside) == {"maintain", "ask", "replay_again", "outage"}
