"""The workbench: one object for loading, asking and looking back; every door (CLI, notebook, server) uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.config import Settings
from k2kernel.errors import FileFault, InvalidParameter, LakeNotFound
from k2kernel.html import Listing
from k2kernel.lake import Lake
from k2kernel.times import AsOfLike, parse_as_of, parse_date, parse_sessions
from k2kernel.workbench.reads import Reads

if TYPE_CHECKING:
    import polars as pl

    from k2kernel.decode import Decoded
    from k2kernel.ingest import Loaded, Options, Progress, Receipt
    from k2kernel.ingest.audit import Audit
    from k2kernel.ingest.letters import Letters
    from k2kernel.ingest.publish import Sent
    from k2kernel.ingest.stream import Stream
    from k2kernel.lake import Pin, Reference, Rollback, Snapshot, Upkeep
    from k2kernel.lake.backup import Exported, Restored
    from k2kernel.lake.moving import Moved
    from k2kernel.profiles import Profile
    from k2kernel.query import Diff, Materialised, Result
    from k2kernel.sinks.kafka import Producer, Published
    from k2kernel.streaming import Position
    from k2kernel.workbench.evidence import Evidence
    from k2kernel.workbench.view import View

Paths = str | Path | Sequence[str | Path]


def connect(path: str | Path | None = None, *, settings: Settings | None = None) -> Workbench:
    """A workbench on the lake at `path` (a folder that holds or will hold `.k2`'s content), or as settings say.

    Nothing is opened or made until it is needed: a read where there is no lake raises `LakeNotFound`, an ingest
    makes one.
    """
    if path is not None and settings is not None:
        raise InvalidParameter("path", str(path), "is given together with settings", "Give one of them")
    if settings is None:
        settings = Settings() if path is None else Settings(home=Path(path).expanduser().absolute())
    return Workbench(settings)


class Workbench(Reads):
    """Reads and writes one lake. Times are UTC unless said; ranges are half-open; reads never see a half-done load."""

    def __repr__(self) -> str:
        return f"Workbench({str(self.settings.home)!r})"

    def _repr_html_(self) -> str:
        tables = "" if self._lake_if_any is None else str(self.stats()._repr_html_())
        return f"<p>{escape(repr(self))}</p>{tables}"

    @property
    def _lake_if_any(self) -> Lake | None:
        """The lake, or None where none was made yet."""
        try:
            return self.lake
        except LakeNotFound:
            return None

    def init(self) -> Workbench:
        """Make the lake and its tables where they are missing."""
        self.__dict__.pop("engine", None)
        self.__dict__.pop("joins", None)
        self.__dict__.pop("replays", None)
        self.__dict__["lake"] = Lake.open(self.settings, create=True)
        return self

    @contextmanager
    def metrics(self, *, serve: bool = True) -> Iterator[None]:
        """While the block runs, what this process counts can be seen, with the facts of the lake's tables: at
        K2_METRICS_PORT (with `serve`), and in K2_METRICS_TEXTFILE at the end; where neither is set it costs nothing.
        """
        from k2kernel.lake.gauges import Gauges
        from k2kernel.metrics import METRICS

        gauges = Gauges(lambda: self._lake_if_any)
        with METRICS.refreshed_by(gauges.refresh), METRICS.shown(self.settings, serve=serve):
            yield

    def profile(self, name: str | Path) -> Profile:
        """The profile `name`: shipped, in the home's `profiles` folder, or a TOML file."""
        from k2kernel import profiles

        return profiles.load(name, self.settings.home)

    def ingest(self, paths: Paths, profile: str | Path, **words: Any) -> Receipt:
        """Load files (paths or globs) by a profile; each file is one commit per table, or nothing.

        The words are those of `ingest_each`. `FileFault` where a file cannot be loaded; files before it in `paths` are
        loaded then, with several workers perhaps some behind it, too.
        """
        from k2kernel import ingest

        return sum((loaded.get() for loaded in self.ingest_each(paths, profile, **words)), ingest.Receipt())

    def ingest_each(
        self,
        paths: Paths,
        profile: str | Path,
        *,
        symbol: str | None = None,
        venue: str | None = None,
        options: Mapping[str, str] | None = None,
        replace: bool = False,
        append_grown: bool = False,
        max_rejects: float = 0.01,
        on_duplicate: str = "keep_all",
        workers: int = 1,
        progress: bool | Progress = False,
    ) -> Iterator[Loaded]:
        """Load files as `ingest` does, and tell of each in order: its receipt, or its fault, which stops no other.

        `symbol`, `venue` and other `options` (such as `date`) are what the profile asks for. Loading the same content
        again adds nothing; other content from a path loaded before is added, and a note of the receipt says so.
        `replace` takes out what was loaded of that content and from that path (absolute, links followed; of a zip with
        the member) in the same commit, and notes say what; `append_grown` loads what a file has grown by. `max_rejects`
        is the share of lines (0 to 1) that may be bad. `progress=True` shows a bar.

        `on_duplicate` is about fills with an id of the venue that another fill of the same (venue, symbol, session)
        has, in the file or in the table: `keep_all` of them (the default, and all that there is for sources without
        ids), `keep_first` (stored rows come first), `keep_last` of the file (an error where the table has one), or
        `error`, which names the first. What is left out is counted as duplicate.

        `workers` is how many files are loaded at a time, one a core at most, each in a process with its share of the
        threads and the memory.
        """
        from k2kernel import ingest

        wanted = self._options(symbol, venue, options, replace, append_grown, max_rejects, on_duplicate)
        chosen, files = self.profile(profile), expand(paths)
        if workers < 1:
            raise InvalidParameter("workers", workers, "is no number of processes")
        if "lake" not in self.__dict__:
            self.init()
        with ingest.shown(progress) as tell:
            yield from ingest.ingest_files(self.lake, files, chosen, wanted, tell, workers=workers)

    def guess(self, path: str | Path) -> str | None:
        """The name of the profile that fits the file's first lines best, or None where none does."""
        from k2kernel.ingest import guess

        found = guess(self._lake_if_any, self.settings.home, Path(path))
        return None if found is None else found.name

    def preview(
        self,
        path: str | Path,
        profile: str | Path,
        *,
        symbol: str | None = None,
        venue: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Decoded:
        """What a load would make of the first rows of a file: frames by table, rejects, skipped lines by kind."""
        from k2kernel import ingest

        wanted = self._options(symbol, venue, options)
        return ingest.preview_file(self._lake_if_any, self.settings.home, path, self.profile(profile), wanted)

    @staticmethod
    def _options(
        symbol: str | None, venue: str | None, options: Mapping[str, str] | None, *how: bool | float | str
    ) -> Options:
        from k2kernel.ingest import Options

        named = {"symbol": symbol, "venue": venue}
        values = {**(options or {}), **{name: text for name, text in named.items() if text is not None}}
        return Options(values, *how)  # type: ignore[arg-type]  # those after values, in order

    def materialise_bars(self, interval: str = "1m", eligible: str = "venue") -> Materialised:
        """Keep bars in a table for `bars(cached=interval)`; see `QueryEngine.materialise_bars`."""
        return self.engine.materialise_bars(interval, eligible)

    def hours(self, venue: str, session: object) -> pl.DataFrame:
        """When a venue trades in `session` (a date, or first..last, both inclusive): session, open, close, break_start,
        break_end (µs UTC), early, and by: `calendar`, or `zone` where no calendar covers the day.
        """
        from k2kernel import calendars

        days = parse_sessions(session)
        return calendars.opening_hours(calendars.venue(venue, self.settings.home), days.first, days.last)

    def producer(self, **words: Any) -> Producer:
        """A producer of trades and quotes; see `open_producer` for the words."""
        from k2kernel.streaming import open_producer

        return open_producer(self.settings, **words)

    def produce(self, paths: Paths, profile: str | Path, **words: Any) -> list[Sent]:
        """Publish files (paths or globs) by a profile, as `ingest` loads them; see `produce` for the words."""
        from k2kernel.streaming import produce

        return produce(self.settings, self._lake_if_any, expand(paths), self.profile(profile), **words)

    def resend(self, paths: Paths, *, progress: bool | Progress = False) -> Published:
        """Publish rows again that could not be delivered, from the files that `produce` has named; see `resend`."""
        from k2kernel.streaming import resend

        return resend(self.settings, expand(paths), progress=progress)

    def streams(self) -> list[Position]:
        """How far the lake has each partition of the topics, and how far that is behind the brokers."""
        from k2kernel.streaming import positions

        return positions(self._lake_if_any, self.settings)

    def stream(self, topics: Sequence[str] | None = None, **words: Any) -> Stream:
        """Topics into the lake, exactly once; see `open_stream` for the words."""
        from k2kernel.streaming import open_stream, services

        services(self.settings)
        if "lake" not in self.__dict__:
            self.init()
        return open_stream(self.lake, topics, **words)

    def dead_letters(self) -> Letters:
        """The messages of streams that were no rows: list them, try them again, drop them; see `Letters`."""
        from k2kernel.ingest.letters import Letters

        return Letters(self.lake)

    def audit(self) -> Audit:
        """Whether the offsets that streams committed leave no gap, overlap nowhere, and have their rows."""
        from k2kernel.ingest.audit import audit

        return audit(self.lake)

    def at(self, as_of: AsOfLike = None) -> View:
        """The read verbs at one state of every table (None: now), whatever is written later.

        UnknownReference where no table has such a state. The id of a snapshot is of one table only: another table is
        then an error when it is read.
        """
        from k2kernel.workbench.view import View

        return View(self.lake, self.engine, self.replays, as_of)

    def evidence(self, result: Result, folder: str | Path | None = None) -> Evidence:
        """Write an answer down, sealed, in a folder that is not there yet (None: a new one in `evidence` of the home):
        its rows, the question, the SQL, the states, policies and versions, and for each row its source file and line.

        Of bars and sums the lines are those of the events behind them. `.faults()` of it, or `k2 run --verify FOLDER`,
        says later what was changed. InvalidParameter for what is no answer of a read verb.
        """
        from k2kernel.workbench.evidence import evidence

        return evidence(self, result, folder)

    def diff(self, table: str, a: AsOfLike, b: AsOfLike = None) -> Diff:
        """What differs between two states of a table (`b` None: now): rows, symbols and bars."""
        return self.engine.diff(table, a, b)

    def snapshots(self, table: str = "trades") -> list[Snapshot]:
        """Every kept state of a table, newest first."""
        return Listing(self.lake.snapshots(table))

    def tags(self, table: str = "trades") -> list[Reference]:
        """The names that states of a table have: tags, branches and pins."""
        return Listing(self.lake.tags(table))

    def tag(self, table: str, name: str, as_of: AsOfLike = None, *, move: bool = False) -> int:
        """Name a state of a table, and return its snapshot id; an existing tag moves only with `move`.

        A name is `[a-z][a-z0-9._-]*` and not `main`, so that it is never taken for an id or a date.
        """
        return self.lake.tag(table, name, self.lake.resolve(table, parse_as_of(as_of)), move)

    def untag(self, table: str, name: str) -> None:
        """Take a tag away; its snapshot stays until it expires. A pin is taken away by `unpin`."""
        self.lake.untag(table, name)

    def pin(
        self,
        name: str,
        tables: Iterable[str] | None = None,
        as_of: AsOfLike = None,
        *,
        hold_until: object = None,
        move: bool = False,
    ) -> Pin:
        """Name a state of several tables (None: all of them) at `as_of` (None: now), and record the ids.

        This is not atomic across tables, because the catalog is not: the states are looked up one table after another,
        and each table gets its tag and the record of all ids in a commit of its own. A writer between two look-ups is
        in one table and not in the other; the record says what was pinned, and `pins` which pin is not complete.

        `hold_until` (a date, the last day, UTC) holds the pin: until then it can be neither moved nor taken away, and
        no maintenance expires what it names. Pinning the same state again completes a pin or lengthens its hold, as
        with `pin(name, as_of=name, hold_until=…)`; a hold is never shortened.
        """
        day = None if hold_until is None else parse_date(hold_until, "hold_until")
        return self.lake.pin(name, tables, parse_as_of(as_of), day, move)

    def pins(self) -> list[Pin]:
        """Every pin, oldest first."""
        return Listing(self.lake.pins())

    def unpin(self, name: str) -> None:
        """Take a pin away from every table; InvalidParameter while its hold lasts."""
        self.lake.unpin(name)

    def rollback(self, table: str, as_of: AsOfLike) -> Rollback:
        """Make an earlier state of a table the current one, and say what went.

        Only a state that the current one is built on will do: no row is lost, because the state before gets the tag
        `before-rollback-<id>` in the same commit (a held state is kept by its pin anyway). Rolling back to that tag
        goes forward again, until something else is written; then roll back first to what both are built on. Sources
        that went can be loaded again.
        """
        state = self.lake.resolve(table, parse_as_of(as_of))
        if state is None:
            raise InvalidParameter("as_of", str(as_of), f"{table} has no snapshot", "There is nothing to roll back")
        return self.lake.rollback(table, state)

    def publish(self, table: str, branch: str) -> int:
        """Make the head of a branch (of another program's writing) the current state, and return its id; CommitConflict
        where the current state has rows that the branch is not built on.
        """
        return self.lake.publish(table, branch)

    def compact(self, table: str, session: object = None, *, dry_run: bool = False) -> Upkeep:
        """Write small files as few sorted ones (`session`, a date: all of its files), in one snapshot that changes no
        row; CommitConflict, and nothing changed, where writers leave it no room.
        """
        day = None if session is None else parse_date(session, "session")
        return self.lake.maintenance.compact(table, day, dry_run)

    def expire(self, table: str, policy: Mapping[str, object] | None = None, *, dry_run: bool = True) -> Upkeep:
        """Take away the states that a policy (`last`, `every`, `hourly`, `daily`; None: of the settings) does not keep,
        and their files. Named states stay; `ingest_log` keeps what the others brought.
        """
        return self.lake.maintenance.expire(table, policy, dry_run)

    def orphans(self, table: str, older_than: object = None, *, dry_run: bool = True) -> Upkeep:
        """Delete files that nothing refers to and that are older than `older_than` (such as `3d`)."""
        return self.lake.maintenance.orphans(table, older_than, dry_run)

    def rewrite_manifests(self, table: str, *, dry_run: bool = False) -> Upkeep:
        """Merge the manifests of the current state, which are read to plan, in one snapshot without rows."""
        return self.lake.maintenance.rewrite_manifests(table, dry_run)

    def export(self, table: str, folder: str | Path, as_of: AsOfLike = None) -> Exported:
        """Copy a state of a table (None: the current one) to a new folder: its rows, what they came from, and how far
        streams are.
        """
        from k2kernel.lake import backup

        return backup.export(self.lake, table, self.lake.resolve(table, parse_as_of(as_of)), Path(folder))

    def restore(self, folder: str | Path) -> Restored:
        """Bring back what `export` wrote, into a lake (made where it is missing) whose table has no snapshot.

        The snapshot gets an id of its own; the old one and the new one are kept in the lake's home. What was loaded
        before is still known.
        """
        from k2kernel.lake import backup

        if "lake" not in self.__dict__:
            self.init()
        return backup.restore(self.lake, Path(folder))

    def migrate_catalog(self, uri: str) -> Moved:
        """Move the embedded catalog to the one at `uri` (SQLAlchemy or REST); see `k2kernel.lake.moving.move`."""
        from k2kernel.lake.moving import move

        return move(self.settings, uri)

    def maintain(self, table: str | None = None, *, dry_run: bool = False) -> list[Upkeep]:
        """Compact, expire and remove orphans, of a table (None: of each), by the policy of the settings."""
        return Listing(self.lake.maintenance.maintain(table, dry_run))


def expand(paths: Paths) -> list[Path]:
    """Paths and globs as a list of files, in the order given; `FileFault` for a glob that matches nothing."""
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files: list[Path] = []
    for path in given:
        text = str(path)
        if any(mark in text for mark in "*?[") and not Path(text).exists():
            found = sorted(glob(text))  # noqa: PTH207 - a pattern may be absolute
            if not found:
                raise FileFault(text, "matches no file", "Check the pattern")
            files += map(Path, found)
        else:
            files.append(Path(text))
    return files
