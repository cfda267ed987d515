"""How a lake grows, on paper: rows, bytes, files, snapshots and metadata of a table by how often it commits.

The constants were measured; `tests/test_scaling.py` measures the curve again and holds `grown` to it.
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

BYTES_A_ROW = 11.0
"""Of trades in sorted files of a day."""


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


def main() -> None:
    """Print the page's table: a day of a table by commit interval."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--rows", type=float, default=10e6, help="rows a day")
    parser.add_argument("--hours", type=float, default=6.5, help="hours of trading a day")
    chosen = parser.parse_args()
    print(
        "| commit every | commits a day | rows a file | kB a file | files a day | snapshots kept | metadata.json kB |"
    )
    print("|---|---|---|---|---|---|---|")
    for seconds in (1, 5, 10, 60, 600):
        commits = round(chosen.hours * 3600 / seconds)
        rows, states = chosen.rows / commits, kept(commits, 90)
        facts = (f"{seconds} s", f"{commits:,}", f"{rows:,.0f}", f"{rows * BYTES_A_ROW / 1e3:,.0f}")
        rest = (f"{grown(commits).files:,}", f"{states:,}", f"{grown(states).metadata_bytes / 1e3:,.0f}")
        print(f"| {' | '.join((*facts, *rest))} |")


if __name__ == "__main__":
    main()
