"""Every error that k2kernel raises on purpose.

    K2Error
    ├── InvalidParameter       a value given by the caller is not acceptable
    │   ├── AmbiguousSymbol    a symbol that stands for more than one instrument
    │   └── InvalidPosition    a token that is damaged, or of another query
    ├── NotFound               something was named that does not exist
    │   ├── LakeNotFound       no lake where one was expected
    │   ├── UnknownTable
    │   ├── UnknownReference   a snapshot id, tag, branch, pin or time that nothing answers to
    │   │   └── ExpiredReference  a state that was there and is not kept any more
    │   ├── UnknownSymbol
    │   ├── UnknownVenue
    │   └── UnknownProfile
    ├── ProfileError           a profile's TOML does not describe a format
    ├── FileFault              a whole input file cannot be ingested; nothing was committed
    │   ├── AlreadyIngested    the same content under another profile, symbol or venue
    │   └── GrownFile          the file begins with one that was ingested before
    ├── QueryError             a query that was refused or that failed
    │   ├── SqlRefused         not one read-only statement over the lake's tables
    │   ├── QueryCancelled     interrupted by the caller or by a time limit
    │   ├── QueryTooLarge      it needs more memory than queries may use
    │   └── UnreadableData     a data file that the query needs cannot be read
    ├── SlowConsumer           a consumer that did not keep up with a replay
    ├── StorageFault           a file or folder of the lake cannot be used
    ├── MovedLake              the files of the lake are not where its catalog says
    ├── CatalogUnreachable     the catalog that is configured does not answer
    ├── CatalogMoved           the tables of an embedded catalog are in another one
    ├── CommitConflict         another writer changed the table in a way that cannot be merged
    ├── UnsupportedTable       a table feature that reads cannot apply
    ├── StreamFault            a stream that cannot go on: broker, registry, schema or message
    │   └── WriterFenced       another writer has taken over a partition
    ├── ServiceFault           a local server that cannot be started
    └── MissingExtra           an optional part that is not installed

An error holds facts as attributes; its sentence ends in what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote


def listed(names: Iterable[object], none: str = "none", most: int = 20) -> str:
    """`a, b, c`, cut after `most` names, or `none` when there are no names."""
    texts = [str(name) for name in names]
    if not texts:
        return none
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def counted(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`; `1 batch`, `2 batches`."""
    ending = "" if count == 1 else "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{count:,} {noun}{ending}"


def meant(name: str, known: Iterable[str]) -> str:
    """`Did you mean a, b? ` for the known names that are spelled like `name`, or nothing."""
    from difflib import get_close_matches

    by_lower = {each.lower(): each for each in known}
    near = [by_lower[each] for each in get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]
    return f"Did you mean {', '.join(near)}? " if near else ""


class K2Error(Exception):
    """The base of every deliberate error. `problem` says what is wrong, `remedy` what to do."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem.rstrip(".")
        self.remedy = remedy.rstrip(".")
        super().__init__(str(self))

    def __str__(self) -> str:
        if "\n" in self.problem:  # a picture, such as the place of a mistake in a statement
            return "\n".join(part for part in (self.problem, self.remedy and f"{self.remedy}.") if part)
        text = ". ".join(part for part in (self.problem, self.remedy) if part)
        return text if text.endswith("?") else f"{text}."

    def __reduce__(self) -> tuple[object, ...]:
        """So that it can come from another process."""
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[K2Error], args: tuple[object, ...]) -> K2Error:
    return kind.__new__(kind, *args)


class InvalidParameter(K2Error):
    """`parameter` was given `value`, which is not acceptable."""

    def __init__(self, parameter: str, value: object, problem: str, remedy: str = "") -> None:
        self.parameter, self.value = parameter, value
        super().__init__(f"{parameter if value is None else f'{parameter}={value!r}'}: {problem}", remedy)


def one_of(parameter: str, value: object, known: Iterable[object]) -> str:
    """The value as a text, where it is one of those that are `known`; InvalidParameter, which lists them, elsewhere."""
    names = [str(each) for each in known]
    if value not in names:
        remedy = f"{meant(str(value), names)}Use one of: {listed(names)}"
        raise InvalidParameter(parameter, value, "is not known", remedy)
    return str(value)


class AmbiguousSymbol(InvalidParameter):
    """`symbol` trades on several `venues`."""

    def __init__(self, symbol: str, venues: Iterable[str]) -> None:
        self.symbol, self.venues = symbol, sorted(venues)
        super().__init__("symbol", symbol, f"is on {listed(self.venues)}", "Name one with venue=")


class InvalidPosition(InvalidParameter):
    """A position token that cannot be gone on from: `problem` says why."""

    def __init__(self, problem: str, remedy: str = "Give `position` as it was given out, with the same query") -> None:
        super().__init__("position", "…", problem, remedy)


class NotFound(K2Error):
    """Something was named that does not exist."""


class LakeNotFound(NotFound):
    """There is no lake at `place`."""

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(
            f"There is no lake at {place}",
            "Load a file with `k2 ingest FILE --profile P`, or make an empty lake with `k2 init`",
        )


class UnknownTable(NotFound):
    """`name` is no table; `known` are."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, sorted(known)
        super().__init__(f"There is no table {name!r}", f"Tables: {listed(self.known)}")


class UnknownReference(NotFound):
    """`reference` names no state of `table`; `known` lists what exists."""

    def __init__(self, table: str, reference: object, known: str, problem: str = "") -> None:
        self.table, self.reference, self.known = table, reference, known
        what = problem or f"as_of={str(reference)!r} names no snapshot, tag, branch or pin of {table}"
        super().__init__(what, f"It has: {known}" if known else "")


class ExpiredReference(UnknownReference):
    """`reference` stands for a state of `table` that was there and is not kept any more."""


class UnknownSymbol(NotFound):
    """`symbol` has no rows; `near` are like it."""

    def __init__(self, symbol: str, near: Iterable[str], where: str = "the lake") -> None:
        self.symbol, self.near = symbol, list(near)
        hint = f"Did you mean {listed(self.near)}?" if self.near else "`k2-query symbols` lists what there is"
        super().__init__(f"There is no symbol {symbol!r} in {where}", hint)

    def __str__(self) -> str:
        return super().__str__().replace("?.", "?")


class UnknownVenue(NotFound):
    """Nobody declared `venue`."""

    def __init__(self, venue: str, near: Iterable[str] = ()) -> None:
        self.venue, self.near = venue, list(near)
        like = f" (like it: {listed(self.near)})" if self.near else ""
        super().__init__(
            f"The venue {venue!r} is not declared{like}",
            f'Add to venues.toml in K2_HOME: [{venue}] and under it zone = "Area/City"',
        )


class UnknownProfile(NotFound):
    """`name` is neither a shipped profile nor a TOML file."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, sorted(known)
        super().__init__(
            f"There is no profile {name!r}",
            f"Shipped: {listed(self.known, most=40)}; or give the path of a .toml file",
        )


class ProfileError(K2Error):
    """A profile's TOML does not describe a format: `profile`, `where` in it, and the problem."""

    def __init__(self, profile: str, where: str, problem: str, remedy: str = "") -> None:
        self.profile, self.where = profile, where
        super().__init__(f"Profile {profile}, {where}: {problem}", remedy)


class FileFault(K2Error):
    """The file at `path` cannot be ingested; nothing of it was committed."""

    def __init__(self, path: str, problem: str, remedy: str = "") -> None:
        self.path = path
        super().__init__(f"{path}: {problem}", remedy)


class AlreadyIngested(FileFault):
    """The same content is in `table` already, loaded as `before` and now asked for as `now`."""

    def __init__(self, path: str, table: str, before: str, now: str) -> None:
        self.table, self.before, self.now = table, before, now
        super().__init__(
            path,
            f"the same content is in {table} already, loaded as {before}, now asked for as {now}",
            "Use --replace to take out the earlier load and put this one in, in one commit",
        )


class GrownFile(FileFault):
    """The file begins with an ingested one of `bytes_before` bytes and `rows_before` rows."""

    def __init__(self, path: str, table: str, bytes_before: int, rows_before: int) -> None:
        self.table, self.bytes_before, self.rows_before = table, bytes_before, rows_before
        super().__init__(
            path,
            f"its first {rows_before} rows ({bytes_before} bytes) are in {table} already",
            "Use --append-grown to load the rest",
        )


class QueryError(K2Error):
    """A query that was refused or that failed."""


class SqlRefused(QueryError):
    """A statement that is not one read-only query over the lake's tables."""


class QueryCancelled(QueryError):
    """The query was interrupted by its caller or by a time limit; nothing was changed."""


class QueryTooLarge(QueryError):
    """The query needs more memory than all queries together may use; nothing was changed."""


class UnreadableData(QueryError):
    """A data file that the query needs cannot be read."""


class SlowConsumer(K2Error):
    """A consumer left more than `capacity` events of a replay waiting."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        super().__init__(
            f"The consumer is more than {capacity} events behind the replay",
            "Give it a larger capacity, a lower speed, or slow='block' or 'drop_oldest'",
        )


class StorageFault(K2Error):
    """A file or folder of the lake cannot be used, for the system's `reason`; no table has half of what was written."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be used: {reason}", "Make room or give access, and run the same again")


class MovedLake(K2Error):
    """The catalog has tables in `there`, and the lake is `here`: locations are absolute, and it was copied, or moved,
    which a link in the old place puts right.
    """

    def __init__(self, there: str, here: str, *, copied: bool) -> None:
        self.there, self.here = there, here
        link = f"mkdir -p {quote(str(Path(there).parent))} && ln -s {quote(here)} {quote(there)}"
        super().__init__(
            f"The lake in {here} was {'copied' if copied else 'moved'}: its catalog has tables in {there}",
            "Use the one there, or `k2 table export` its tables and `k2 table import` them into a new lake"
            if copied
            else f"Link the old place to the new one: `{link}`",
        )


class CatalogUnreachable(K2Error):
    """The catalog of kind `scheme` (the URI itself may hold a secret) does not answer; `problem` says why."""

    def __init__(self, scheme: str, problem: str) -> None:
        self.scheme = scheme
        super().__init__(
            f"The {scheme} catalog of K2_CATALOG_URI cannot be opened: {problem}",
            "Check the URI, that the server runs, and that its driver is installed",
        )


class CatalogMoved(K2Error):
    """The tables of the catalog in `file` have gone to the one at `to` (a URI without its password)."""

    def __init__(self, file: str, to: str) -> None:
        self.file, self.to = file, to
        super().__init__(f"The catalog {file} has moved to {to}", "Set K2_CATALOG_URI and K2_WAREHOUSE to it")


class CommitConflict(K2Error):
    """Another writer changed `table` in a way that this commit cannot follow."""

    def __init__(self, table: str, problem: str, remedy: str = "Run the same command again") -> None:
        self.table = table
        super().__init__(f"{table}: {problem}", remedy)


class UnsupportedTable(K2Error):
    """`table` uses a feature that reads cannot apply."""

    def __init__(self, table: str, problem: str, remedy: str) -> None:
        self.table = table
        super().__init__(f"{table}: {problem}", remedy)


class StreamFault(K2Error):
    """A stream cannot go on because of `where`: a broker, a registry, a topic, a message."""

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        self.where = where
        super().__init__(f"{where}: {problem}", remedy)


class WriterFenced(StreamFault):
    """Another writer has taken over `where`; what this one had not committed is the other's to deliver."""


class ServiceFault(K2Error):
    """The local server `name` cannot be started."""

    def __init__(self, name: str, problem: str, remedy: str = "") -> None:
        self.name = name
        super().__init__(f"{name}: {problem}", remedy)


class MissingExtra(K2Error):
    """The part `what` needs the extra `extra`."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} is not installed", f'Install it with: pip install "k2kernel[{extra}]"')


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Imports of the extra `name`: MissingExtra, in the words of `what`, where it is not installed."""
    try:
        yield
    except ImportError as exc:
        raise MissingExtra(what, name) from exc
