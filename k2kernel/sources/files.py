"""Files as members: a plain or compressed file is one member, a zip has one for each file inside.

A member is read as a stream, twice: once for its digest, once for its rows, so memory does not grow with its size.
Lines are numbered from 1, as an editor shows them.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import IO, Literal

from k2kernel.cached import cached_property
from k2kernel.errors import FileFault

BLOCK_BYTES = 16 << 20
_LONGEST_LINE = 16 * BLOCK_BYTES
_MAGIC: dict[bytes, Literal["gz", "bz2", "xz", "zstd", "zip", "parquet"]] = {
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PAR1": "parquet",
}


@dataclass(frozen=True)
class Member:
    """One readable file: on disk at `path`, or the member `inner` of the zip there.

    With `head` only the whole lines in that many first bytes are seen.
    """

    path: Path
    packing: str
    inner: str | None = None
    head: int | None = None

    @property
    def name(self) -> str:
        """`PATH` or `PATH!MEMBER`, as messages and `path` regexes of profiles see it."""
        return str(self.path) if self.inner is None else f"{self.path}!{self.inner}"

    @property
    def place(self) -> str:
        """Its name by the absolute path, links followed: the same from wherever it is named."""
        return replace(self, path=self.path.resolve()).name

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The decompressed bytes as a stream; damage becomes a `FileFault` that says where it lies."""
        try:
            with _decompressed(self) as stream:
                yield stream if self.head is None else _first_lines(stream, self.head)
        except EOFError as exc:
            raise FileFault(self.name, "is cut short: the compressed data ends too early", "Fetch it again") from exc
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError) as exc:
            if isinstance(exc, OSError) and exc.errno is not None:
                raise
            raise FileFault(self.name, f"is damaged: {exc}", "Fetch it again") from exc
        except NotImplementedError as exc:
            raise FileFault(self.name, f"cannot be unpacked: {exc}", "Unpack it first") from exc
        except RuntimeError as exc:
            if "encrypted" in str(exc) or "password" in str(exc):
                raise FileFault(self.name, "is encrypted", "Unpack it first") from exc
            raise


def _first_lines(stream: IO[bytes], nbytes: int) -> IO[bytes]:
    data = stream.read(nbytes)
    whole = data.rfind(b"\n") + 1 if len(data) == nbytes else len(data)
    return io.BytesIO(data[:whole])


@contextmanager
def _decompressed(member: Member) -> Iterator[IO[bytes]]:
    if member.packing == "zip":
        with zipfile.ZipFile(member.path) as archive, archive.open(str(member.inner)) as stream:
            yield stream
    elif member.packing == "zstd":
        import pyarrow as pa

        try:
            with pa.input_stream(str(member.path), compression="zstd") as stream:
                yield stream
        except OSError as exc:
            raise FileFault(member.name, f"is damaged: {exc}", "Fetch it again") from exc
    else:
        openers: dict[str, Callable[..., IO[bytes]]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}  # type: ignore[dict-item]  # their "rb" overloads give IO[bytes]
        with openers.get(member.packing, open)(member.path, "rb") as stream:
            yield stream


def members(path: str | Path, glob: str = "*") -> list[Member]:
    """The members of the file at `path`; of a zip those whose name, or last part of it, matches `glob`.

    Raises `FileFault` for what is missing, a folder, empty, unreadable, or has no such member.
    """
    place = Path(path)
    packing = _packing(place)
    if packing != "zip":
        return [Member(place, packing)]
    try:
        with zipfile.ZipFile(place) as archive:
            names = [
                entry.filename for entry in archive.infolist() if not (entry.is_dir() or _is_litter(entry.filename))
            ]
    except zipfile.BadZipFile as exc:
        raise FileFault(str(place), f"is a damaged zip: {exc}", "Fetch it again") from exc
    chosen = [name for name in names if fnmatch(name, glob) or fnmatch(PurePath(name).name, glob)]
    if not chosen:
        raise FileFault(str(place), f"has no member that matches {glob!r}; it has {', '.join(names) or 'none'}")
    repeated = sorted(name for name, count in Counter(chosen).items() if count > 1)
    if repeated:
        raise FileFault(str(place), f"has several members named {repeated[0]}", "Unpack it, and load the files")
    return [Member(place, packing, name) for name in chosen]


def _is_litter(name: str) -> bool:
    """What archivers of desktop systems add beside the files: hidden files and resource forks."""
    return name.startswith("__MACOSX/") or PurePath(name).name.startswith(".")


def _packing(place: Path) -> str:
    if place.is_dir():
        raise FileFault(str(place), "is a folder", "Name the files in it, such as FOLDER/*.csv")
    try:
        with place.open("rb") as stream:
            head = stream.read(6)
    except OSError as exc:
        raise FileFault(str(place), exc.strerror or str(exc), "Check the path and its permissions") from exc
    if not head:
        raise FileFault(str(place), "is empty", "Fetch it again, or leave it out")
    return next((packing for magic, packing in _MAGIC.items() if head.startswith(magic)), "plain")


@dataclass(frozen=True)
class Digest:
    """SHA-256 of a member's decompressed bytes, their number, and the digest `at` each earlier length asked for."""

    sha256: str
    nbytes: int
    at: dict[int, str] = field(default_factory=dict)


def digest(member: Member, lengths: Sequence[int] = (), progress: Callable[[int], None] = lambda _: None) -> Digest:
    """Read a member through; `progress` is told the bytes of each block."""
    stops = iter(sorted({length for length in lengths if length > 0}))
    stop = next(stops, None)
    running, nbytes, at = hashlib.sha256(), 0, {}
    with member.open() as stream:
        while block := stream.read(BLOCK_BYTES if stop is None else min(BLOCK_BYTES, stop - nbytes)):
            running.update(block)
            nbytes += len(block)
            progress(len(block))
            if nbytes == stop:
                at[nbytes] = running.hexdigest()
                stop = next(stops, None)
    if nbytes == 0:
        raise FileFault(member.name, "is empty", "Fetch it again, or leave it out")
    return Digest(running.hexdigest(), nbytes, at)


@dataclass(frozen=True)
class Block:
    """Whole lines as UTF-8 or raw bytes, the number of the first one, and how many bytes of the member it took."""

    data: bytes
    first_line: int
    nbytes: int

    @cached_property
    def lines(self) -> int:
        """How many lines it has."""
        return self.data.count(b"\n")


def text_blocks(member: Member, encoding: str = "utf-8", skip_bytes: int = 0, first_line: int = 1) -> Iterator[Block]:
    """The lines of a member after `skip_bytes`, in blocks of about 16 MB, each ending in a line feed.

    Encodings in which a line feed is not one byte (UTF-16, UTF-32) come recoded as UTF-8; all others as they are.
    """
    with member.open() as stream:
        rest, line = b"", first_line
        for chunk in _after(_chunks(stream, encoding, member.name), skip_bytes):
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest = _join(rest, chunk, member, line)
                continue
            data, rest = b"".join((rest, memoryview(chunk)[:cut])), chunk[cut:]
            yield (block := Block(data, line, len(data)))
            line += block.lines
        if rest:
            yield Block(rest + b"\n", line, len(rest))


def _join(rest: bytes, chunk: bytes, member: Member, line: int) -> bytes:
    if len(rest) + len(chunk) > _LONGEST_LINE:
        raise FileFault(member.name, f"line {line} is longer than {_LONGEST_LINE >> 20} MB", "Is it a text file?")
    return rest + chunk


def _after(chunks: Iterator[bytes], skip_bytes: int) -> Iterator[bytes]:
    for chunk in chunks:
        if skip_bytes < len(chunk):
            yield chunk[skip_bytes:]
        skip_bytes = max(0, skip_bytes - len(chunk))


def is_wide(encoding: str) -> bool:
    """True for encodings whose line feed is more than one byte."""
    return encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32", "ucs"))


def _chunks(stream: IO[bytes], encoding: str, name: str) -> Iterator[bytes]:
    if not is_wide(encoding):
        while chunk := stream.read(BLOCK_BYTES):
            yield chunk
        return
    import codecs

    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        while chunk := stream.read(BLOCK_BYTES):
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as exc:
        raise FileFault(name, f"is not {encoding}: {exc.reason}", "Set file.encoding in the profile") from exc
