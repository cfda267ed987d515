"""Memory that is freed and wanted again at once, as a load and a stream do with every batch."""

from __future__ import annotations

import os
import subprocess
import sys

PAGES = """
import resource, sys, time
import k2kernel
assert "polars" not in sys.modules, "Polars reads how to allocate when it is loaded"
import polars as pl

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [pl.repeat(number, 100_000, dtype=pl.Int64, eager=True) for number in range(64)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
time.sleep(2)
print(first, faults())
"""


def faults(**environment: str) -> tuple[int, int]:
    """Pages that the system gave for 50 MB, and for as much again two seconds after those were freed."""
    usual = {name: value for name, value in os.environ.items() if name != "_RJEM_MALLOC_CONF"}
    command = [sys.executable, "-c", PAGES]
    done = subprocess.run(command, env=usual | environment, check=True, capture_output=True, text=True)
    first, second = map(int, done.stdout.split())
    return first, second


def test_freed_memory_is_kept_for_the_next_batch() -> None:
    first, second = faults()
    assert second < first / 3


def test_what_the_environment_says_of_it_counts() -> None:
    first, second = faults(_RJEM_MALLOC_CONF="dirty_decay_ms:500")
    assert second > first / 2
