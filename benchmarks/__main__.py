"""`python -m benchmarks`: measure everything, print a table, and write it as JSON and as the README shows it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import appends, contest, http, queries, replay, streams, workers
from benchmarks.contest import Contest
from benchmarks.report import Report

PARTS = ("contest", "appends", "queries", "replay", "workers", "http", "streams")


def main() -> None:
    """Parse the arguments and run the parts in order; those after the contest use the lake that it leaves."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the CSV that is ingested")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender; medians count")
    parser.add_argument("--commits", type=int, default=contest.COMMITS, help="small appends")
    parser.add_argument("--seconds", type=float, default=http.SECONDS, help="load on each route of the server")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="leave out the other parts")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where files are made and kept")
    parser.add_argument("--engines", type=Path, default=Path(sys.executable), help="a Python that has their libraries")
    parser.add_argument("--json", type=Path, help="write the figures to this file, not to the folder's figures.json")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    report = Report(chosen.rows, chosen.rounds, chosen.commits)
    try:
        _measure(report, folder, chosen)
    finally:
        (folder / "figures.md").write_text(report.markdown(), encoding="utf-8")
        report.write(chosen.json or folder / "figures.json")
    print(f"\n{report.markdown()}")


def _measure(report: Report, folder: Path, chosen: argparse.Namespace) -> None:
    home = contest.home(folder, chosen.rows)
    parts = {
        "contest": lambda: Contest(report, folder, chosen.engines.absolute()).measure(chosen.rounds, chosen.commits),
        "appends": lambda: appends.measure(report, folder, chosen.commits),
        "queries": lambda: queries.measure(report, home),
        "replay": lambda: replay.measure(report, home),
        "workers": lambda: workers.measure(report, folder, chosen.rounds, chosen.rows),
        "http": lambda: http.measure(report, home, chosen.seconds),
        "streams": lambda: streams.measure(report, folder, min(chosen.rows, streams.ROWS)),
    }
    for name in chosen.only:
        parts[name]()


if __name__ == "__main__":
    main()
