"""How a lake grows, on paper: bytes, files, snapshots and metadata of a table by how often it commits, and what a load
needs of processors and memory.

The constants were measured on the trades of `benchmarks/data.py`; `tests/test_scaling.py` measures again and holds the
model to it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

MERGED_AT = 8
"""`commit.manifest.min-count-to-merge`: so many manifests become one."""

LOGGED = 20
"""`write.metadata.previous-versions-max`: so many earlier metadata files stay."""

BASE_BYTES, SNAPSHOT_BYTES, LOGGED_BYTES = 4_314, 1_026, 114
"""A metadata.json without snapshots, and what each snapshot and each earlier metadata file add to it; each of the
three holds the table's location once more."""

BYTES_A_ROW = 13.5
"""Of trades in a sorted session of some million rows. Other trades have other columns: the sample's have 7."""

FILE_BYTES, FILE_BYTES_A_ROW = 5_000, 15.0
"""The file of one commit: its footer, and rows that have fewer neighbours to be packed with."""

ROWS_A_CORE_S, START_S = 300_000, 1.5
"""Rows of CSV that a second of one processor loads, and the seconds of one that starting takes."""

TIMES_A_COPY = 2.1
"""The processor time of a load to that of DuckDB sorting the same CSV into one Parquet file: processors differ,
and one does by the hour; this hardly does.
"""

LOAD_MB, BUFFER_KB_A_ROW = 820, 0.55
"""The most memory of a load: what it reads, decodes and writes with, and each row of `K2_INGEST_BUFFER_ROWS`."""


@dataclass(frozen=True)
class Grown:
    """A table after so many commits that were neither compacted nor expired: files on disk and sizes in bytes."""

    commits: int
    data_files: int
    manifests: int
    manifests_to_plan: int
    metadata_files: int
    metadata_bytes: int

    @property
    def files(self) -> int:
        """Every file of the table: of data, manifests, their lists (one a commit) and metadata."""
        return self.data_files + self.manifests + self.commits + self.metadata_files


def grown(commits: int, partitions: int = 1, location: int = 49) -> Grown:
    """A table whose location has so many letters, after `commits` appends, each of one file to each of `partitions`:
    simulated commit by commit.
    """
    manifests, waiting = 0, 0
    for _ in range(commits):
        manifests, waiting = manifests + 1, waiting + 1
        if waiting == MERGED_AT:
            manifests, waiting = manifests + 1, 1
    logged = min(commits, LOGGED)
    size = BASE_BYTES + SNAPSHOT_BYTES * commits + LOGGED_BYTES * logged + location * (1 + commits + logged)
    return Grown(commits, commits * partitions, manifests, waiting, logged + 1, size)


def kept(commits_a_day: float, days: int, every_h: float = 1, hourly_d: float = 2, daily_d: float = 90) -> int:
    """The snapshots that expiry keeps after `days`, by the policy of the settings."""
    hours, spent = 24.0, float(days)
    young = min(every_h / hours, spent) * commits_a_day
    by_hour = min(hourly_d, spent) * min(hours, commits_a_day)
    return round(young + by_hour + min(daily_d, spent))


def file_bytes(rows: float) -> float:
    """A data file of one commit."""
    return FILE_BYTES + FILE_BYTES_A_ROW * rows


def load_mb(buffer_rows: int) -> float:
    """The most memory of a process that loads files."""
    return LOAD_MB + BUFFER_KB_A_ROW * buffer_rows / 1e3


def _print(*rows: tuple[str, ...]) -> None:
    for row in (rows[0], ("---",) * len(rows[0]), *rows[1:]):
        print(f"| {' | '.join(row)} |".replace(" --- ", "---"))
    print()


def main() -> None:
    """Print the page's tables: a day by commit interval, a day by its rows, and a load by its buffer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--rows", type=float, default=10e6, help="rows a day")
    parser.add_argument("--hours", type=float, default=6.5, help="hours of trading a day")
    chosen = parser.parse_args()
    _print(
        (
            *("commit every", "commits a day", "rows a file", "kB a file", "files a day", "of 16 partitions"),
            *("snapshots kept", "metadata.json kB"),
        ),
        *(_day(chosen.rows, chosen.hours, seconds) for seconds in (1, 5, 10, 60, 600)),
    )
    _print(
        ("times", "rows a day", "rows a second", "GB a day", "processor minutes to load"),
        *(_larger(chosen.rows * times, chosen.hours, times) for times in (1, 10, 100, 1_000)),
    )
    _print(
        ("K2_INGEST_BUFFER_ROWS", "MB of a load"),
        *((f"{rows:,}", f"{load_mb(rows):,.0f}") for rows in (100_000, 250_000, 1_000_000)),
    )


def _day(rows: float, hours: float, seconds: int) -> tuple[str, ...]:
    commits = round(hours * 3600 / seconds)
    states, each = kept(commits, 90), rows / commits
    facts = (f"{seconds} s", f"{commits:,}", f"{each:,.0f}", f"{file_bytes(each) / 1e3:,.0f}")
    files = (f"{grown(commits, partitions).files:,}" for partitions in (1, 16))
    return (*facts, *files, f"{states:,}", f"{grown(states).metadata_bytes / 1e3:,.0f}")


def _larger(rows: float, hours: float, times: int) -> tuple[str, ...]:
    minutes = rows / ROWS_A_CORE_S / 60
    return (
        f"{times:,}",
        f"{rows:,.0f}",
        f"{rows / hours / 3600:,.0f}",
        f"{rows * BYTES_A_ROW / 1e9:,.1f}",
        f"{minutes:,.1f}",
    )


if __name__ == "__main__":
    main()
