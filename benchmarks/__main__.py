"""`python -m benchmarks`: measure everything, print a table, and write JSON where asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import appends, data, http, ingest, joins, queries, replay, streams, workers
from benchmarks.report import HEADING, Report

PARTS = ("ingest", "workers", "queries", "joins", "replay", "http", "appends", "streams")


def main() -> None:
    """Parse the arguments and run the parts in order; the queries run over what the ingest left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the CSV that is ingested")
    parser.add_argument("--rounds", type=int, default=3, help="ingests of each contender; medians count")
    parser.add_argument("--commits", type=int, default=appends.COMMITS, help="small appends")
    parser.add_argument("--seconds", type=float, default=http.SECONDS, help="load on each route of the server")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="leave out the other parts")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where files are made and kept")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    report = Report(chosen.rows)
    folder = chosen.folder.resolve()
    home = folder / f"lake-{chosen.rows}"
    print(f"{chosen.rows:,} rows; medians after a warm-up; 'ratio' is k2kernel over DuckDB\n\n{HEADING}")
    if "ingest" in chosen.only:
        ingest.measure(report, data.csv(folder, chosen.rows), home, chosen.rounds)
    if "workers" in chosen.only:
        workers.measure(report, data.csv(folder, chosen.rows), folder, chosen.rounds)
    if "queries" in chosen.only:
        queries.measure(report, home)
    if "joins" in chosen.only:
        joins.measure(report, folder)
    if "replay" in chosen.only:
        replay.measure(report, home)
    if "http" in chosen.only:
        http.measure(report, home, chosen.seconds)
    if "appends" in chosen.only:
        appends.measure(report, folder, chosen.commits)
    if "streams" in chosen.only:
        streams.measure(report, folder, min(chosen.rows, streams.ROWS))
    if chosen.json:
        report.write(chosen.json)


if __name__ == "__main__":
    main()
