"""Evidence: an answer with all that is needed to ask for it again, sealed in a folder.

A folder holds `rows.csv` (exact) and `rows.parquet`; `lines.csv`, which has for each row its source file and line; and
`evidence.json`: what was asked, the SQL that ran, the states that answered, policies, versions, and the SHA-256 of
every file. Its `seal` is the SHA-256 of all of that: whoever was told the seal knows the folder again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.cached import cached_property
from k2kernel.eligibility import policies
from k2kernel.errors import FileFault, InvalidParameter, K2Error, counted
from k2kernel.html import record, states
from k2kernel.sinks import batches_of, encode
from k2kernel.workbench.asked import from_json, to_json
from k2kernel.workbench.reads import Reads
from k2kernel.workbench.view import View

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from k2kernel.query import Result

FACTS, ROWS, LINES, TABLE = "evidence.json", "rows.csv", "lines.csv", "rows.parquet"
_PACKAGES = ("k2kernel", "duckdb", "pyiceberg", "polars", "pyarrow")
_EVENTS = ("symbol", "venue", "session", "start", "end", "hours", "known_at", "clock", "raw")
"""Words of `bars` and the like that choose the events behind them."""

_UNKNOWN = "the rows name no source; a statement that selects source and source_offset does"


@dataclass(frozen=True)
class Evidence:
    """A sealed `folder`: `rows` of them, and its `seal` (SHA-256)."""

    folder: str
    rows: int
    seal: str
    bench: Reads

    def __str__(self) -> str:
        return f"{counted(self.rows, 'row')} in {self.folder}, seal {self.seal}"

    def __repr__(self) -> str:
        return f"Evidence({self})"

    def _repr_html_(self) -> str:
        told = self.facts
        shown = {"rows": f"{self.rows:,}", "seal": self.seal, "folder": self.folder, "asked": from_json(told["asked"])}
        shown |= {"verb": told["verb"], "states": states(told["snapshots"]), "files": list(told["files"])}
        return record(shown, "evidence")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What `evidence.json` says."""
        return dict(json.loads((Path(self.folder) / FACTS).read_text(encoding="utf-8")))

    @classmethod
    def open(cls, bench: Reads, folder: str | Path) -> Evidence:
        """The evidence in a folder; FileFault where there is none."""
        path = Path(folder).absolute()
        try:
            facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
            return cls(str(path), facts["rows"], facts["seal"], bench)
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise FileFault(str(path), f"is no evidence: {exc}", "Give the folder that `wb.evidence` named") from exc

    def faults(self, seal: str | None = None) -> list[str]:
        """What is not as it was, a sentence each: the files, the seal (also against the one given), the answer itself.

        The question is asked again at the same states, so a change that was sealed again is found as well.
        """
        given = [] if seal in (None, self.seal) else [f"its seal is {self.seal}, not {seal}"]
        return [*given, *self._changed(), *self._differs()]

    def _changed(self) -> Iterator[str]:
        if _seal(self.facts) != self.facts["seal"]:
            yield f"{FACTS} was changed: it does not have its seal"
        folder, known = Path(self.folder), self.facts["files"]
        there = {path.name for path in folder.iterdir()} - {FACTS}
        yield from (f"{name} is missing" for name in sorted(known.keys() - there))
        yield from (f"{name} was not there" for name in sorted(there - known.keys()))
        for name in sorted(known.keys() & there):
            if _digest((folder / name).read_bytes()) != known[name]:
                yield f"{name} was changed"

    def _differs(self) -> Iterator[str]:
        try:
            again = ask(self.bench, self.facts["verb"], from_json(self.facts["asked"]), self.facts["snapshots"])
            if _texts(again.snapshots) != self.facts["snapshots"]:
                yield "asked again, it is of another state"
            yield from self._others(again)
        except K2Error as error:
            yield f"it cannot be asked again: {error}"

    def _others(self, again: Result) -> Iterator[str]:
        """What of the files an answer does not have; the rows of a statement may come in any order."""
        rows, lines = (Path(self.folder) / name for name in (ROWS, LINES))
        statement, table = self.facts["verb"] == "sql", again.to_arrow()
        if rows.exists() and not _same(rows.read_bytes(), _encoded(table, "csv"), any_order=statement):
            yield "asked again, the answer has other rows"
        if lines.exists() and not statement:
            found = _lines(self.bench, again, table, from_json(self.facts["asked"]), self.facts["snapshots"])
            if found is None or found.write_csv().encode() != lines.read_bytes():
                yield "asked again, the rows are of other lines"


def evidence(bench: Reads, result: Result, folder: str | Path | None = None) -> Evidence:
    """Write a result down with all that is needed to ask for it again; see `Workbench.evidence`."""
    if result.asked is None:
        raise InvalidParameter("result", type(result).__name__, "is no answer of a read verb", "Give one of wb.sql, …")
    verb, words = result.asked
    place = _folder(bench, verb) if folder is None else Path(folder).absolute()
    if place.exists():
        raise FileFault(str(place), "exists already", "Evidence is written once: name another folder")
    snapshots = _texts(result.snapshots)
    kept = {name: value for name, value in words.items() if name != "as_of"}
    asked, table = to_json(kept), result.to_arrow()
    lines = _lines(bench, result, table, kept, snapshots)
    place.mkdir(parents=True)
    contents = {
        ROWS: _encoded(table, "csv"),
        TABLE: _encoded(table, "parquet"),
    }
    contents |= {} if lines is None else {LINES: lines.write_csv().encode()}
    facts: dict[str, Any] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "lake": str(bench.settings.home),
        "verb": verb,
        "asked": asked,
        "as_of": None if words.get("as_of") is None else str(words["as_of"]),
        "sql": result.planned.text,
        "snapshots": snapshots,
        "policies": _policies(bench, table),
        "hours": result.hours,
        "notes": list(result.notes),
        "rows": table.num_rows,
        "lines": f"{lines.height} in {LINES}" if lines is not None else _UNKNOWN,
        "packages": {name: version(name) for name in _PACKAGES},
        "files": {name: _digest(content) for name, content in contents.items()},
    }
    facts["seal"] = _seal(facts)
    contents[FACTS] = json.dumps(facts, indent=1).encode()
    for name, content in contents.items():
        (place / name).write_bytes(content)
        (place / name).chmod(0o444)
    return Evidence(str(place), table.num_rows, facts["seal"], bench)


def ask(bench: Reads, verb: str, words: Mapping[str, Any], snapshots: Mapping[str, str | None]) -> Result:
    """Ask again, at the states that answered."""
    states = {name: None if pin is None else int(pin) for name, pin in snapshots.items() if " " not in name}
    reader = View(bench.lake, bench.engine, bench.replays, states) if states else bench
    found: Result = getattr(reader, verb)(**words)
    return found


def _lines(
    bench: Reads, result: Result, table: pa.Table, words: Mapping[str, Any], snapshots: Mapping[str, str | None]
) -> pl.DataFrame | None:
    """Row (from 0; null for events behind an aggregate), file and line of each row; None where they are not known."""
    import polars as pl

    verb = result.asked[0] if result.asked else ""
    own = {"source", "source_offset"} <= set(result.columns)
    if not own and verb in ("trades", "quotes"):
        found = ask(bench, verb, {**words, "columns": ["source", "source_offset"]}, snapshots).to_polars()
    elif own:
        found = pl.DataFrame(table.select(["source", "source_offset"]))  # not read again: SQL may have no order
    elif verb in ("bars", "spread_summary", "turnover"):
        chosen = {name: value for name, value in words.items() if name in _EVENTS}
        tables = [name for name in ("trades", "quotes") if name in snapshots]
        keep = ["symbol", "venue", "ts_event", "source", "source_offset"]
        parts = [ask(bench, name, {**chosen, "columns": keep}, snapshots).to_polars() for name in tables]
        return (
            pl.concat(parts).join(_files(bench, snapshots), on="source", how="left").rename({"source_offset": "line"})
        )
    else:
        return None
    named = found.with_row_index("row").join(_files(bench, snapshots), on="source", how="left", maintain_order="left")
    return named.select("row", "file", pl.col("source_offset").alias("line"), "source")


def _files(bench: Reads, snapshots: Mapping[str, str | None]) -> pl.DataFrame:
    """The name of each source by its digest."""
    import polars as pl

    pins = ((label.partition(" ")[0], pin) for label, pin in snapshots.items() if pin is not None)
    history = (ingest for name, pin in pins for ingest in bench.lake.provenance(name, int(pin)))
    names = {source.digest: source.name for ingest in history for source in ingest.sources}
    return pl.DataFrame({"source": list(names), "file": list(names.values())}, {"source": pl.String, "file": pl.String})


def _texts(snapshots: Mapping[str, int | None]) -> dict[str, str | None]:
    """Ids as texts, which no reader of JSON rounds."""
    return {name: None if pin is None else str(pin) for name, pin in snapshots.items()}


def _policies(bench: Reads, table: Any) -> dict[str, Any]:
    """The rules of the policies that the rows name in `eligible`."""
    named = set(table["eligible"].to_pylist()) if "eligible" in table.column_names else set()
    known = policies(bench.settings.home)
    return {name: json.loads(json.dumps(asdict(known[name]), default=str)) for name in sorted(named & known.keys())}


def _same(kept: bytes, again: bytes, *, any_order: bool) -> bool:
    return kept == again or (any_order and sorted(kept.splitlines()) == sorted(again.splitlines()))


def _encoded(table: pa.Table, form: str) -> bytes:
    return b"".join(encode(batches_of(table), form))


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _seal(facts: Mapping[str, Any]) -> str:
    """The SHA-256 of all facts but the seal."""
    rest = {name: value for name, value in facts.items() if name != "seal"}
    return _digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _folder(bench: Reads, verb: str) -> Path:
    return bench.settings.home / "evidence" / f"{verb}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
