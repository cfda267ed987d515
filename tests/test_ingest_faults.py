"""Files that cannot be ingested: refused whole, in one sentence that says what to do."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from k2kernel import profiles
from k2kernel.errors import FileFault, InvalidParameter
from k2kernel.ingest import Options, ingest_file
from k2kernel.lake import Lake
from tests.ingest_files import HEADER, MIXED, assert_no_orphans, counts, ingest, lines, mixed, write


def _as_directory(path: Path) -> None:
    path.mkdir()


def _encrypted(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "\n".join(lines(0, 9)))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def _zipped(*names: str, cut: int = 0) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, "\n".join(lines(0, 20_000, symbol=name[0].upper())))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - cut])

    return make


def _damaged_zip(path: Path) -> None:
    _zipped("a.csv")(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "folder": (_as_directory, "is a folder"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "empty gz": (lambda path: path.write_bytes(gzip.compress(b"")), "is empty"),
    "blank": (lambda path: path.write_bytes(b"\n\n\n"), "no row was accepted"),
    "truncated gz": (
        lambda path: path.write_bytes(gzip.compress("\n".join(lines(0, 50_000)).encode())[:-100]),
        "cut short",
    ),
    "damaged bz2": (lambda path: path.write_bytes(b"BZh9" + b"\x00" * 500), "damaged"),
    "truncated xz": (lambda path: path.write_bytes(lzma.compress(b"T,1,A,1,1,1\n" * 999)[:-20]), "cut short"),
    "truncated zip": (_zipped("a.csv", cut=100), "damaged zip"),
    "damaged zip": (_damaged_zip, "damaged"),
    "encrypted zip": (_encrypted, "encrypted"),
    "no member": (_zipped("a.txt"), "has no member that matches"),
    "wrong kinds": (lambda path: write(path, lines(0, 9, "X")), r"no row was accepted \(9 lines; skipped: 9 X\)"),
    "wrong layout": (
        lambda path: write(path, ["a|b|c"] * 9),
        r"no row was accepted .* The first fault: line 1: has 1 f",
    ),
    "too many rejects": (
        lambda path: write(path, [*lines(0, 980), *["T,x,A,1,1,1"] * 20]),
        r"20 of 1,000 lines are rejected, .* 1\.00%\. The first: line 981: .*ts_event.* in 'T,x,A,.*--max-rejects",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_unusable_file_is_refused_in_one_sentence_and_leaves_nothing(lake: Lake, tmp_path: Path, fault: str) -> None:
    make, sentence = FAULTS[fault]
    path = tmp_path / "the.file"
    make(path)
    profile = mixed(tmp_path, MIXED.replace("[file]", '[file]\nmembers = "*.csv"'))
    with pytest.raises(FileFault, match=sentence) as caught:
        ingest(lake, path, profile)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value).strip()
    assert counts(lake) == {}
    assert_no_orphans(lake)


def test_header_only_missing_column_and_another_layout(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER)
    with pytest.raises(FileFault, match=r"no row was accepted \(0 lines\)\. Its header, .* is all that it holds"):
        ingest(lake, path, "k2-trades")
    path.write_text("time,price\n1,2\n")
    with pytest.raises(FileFault, match="has no column"):
        ingest(lake, path, "k2-trades", {"symbol": "A", "venue": "XASX"})
    assert counts(lake) == {}


def test_an_unknown_compression_in_a_zip_is_named(lake: Lake, tmp_path: Path) -> None:
    _zipped("a.csv")(tmp_path / "a.zip")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[8] = data[data.index(b"PK\x01\x02") + 10] = 99
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(FileFault, match=r"cannot be unpacked.*Unpack it first"):
        ingest(lake, tmp_path / "a.zip", mixed(tmp_path))


def test_max_rejects_is_a_share_of_lines(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*lines(0, 98), *["T,x,A,1,1,1"] * 2])
    with pytest.raises(FileFault, match="2 of 100"):
        ingest(lake, path, mixed(tmp_path), max_rejects=0.019)
    assert ingest(lake, path, mixed(tmp_path), max_rejects=0.02).rejected == 2
    none = write(tmp_path / "b.csv", ["T,x,A,1,1,1"] * 2)
    with pytest.raises(FileFault, match="no row was accepted"):
        ingest(lake, none, mixed(tmp_path), max_rejects=1)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_options_are_checked(lake: Lake, tmp_path: Path, share: float) -> None:
    profile = profiles.load(mixed(tmp_path))
    with pytest.raises(InvalidParameter, match="max_rejects"):
        ingest_file(lake, tmp_path / "a.csv", profile, Options(max_rejects=share))
    with pytest.raises(InvalidParameter, match=r"no such option.*It reads: --venue"):
        ingest_file(lake, tmp_path / "a.csv", profile, Options({"symbol": "A"}))


def test_a_file_that_changes_while_it_is_read_is_refused(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(0, 100))

    def grow(file: str, phase: str, nbytes: int, total: int) -> None:
        if phase == "checking":
            with path.open("a") as stream:
                stream.write(lines(100, 101)[0] + "\n")

    with pytest.raises(FileFault, match="was changed while it was read"):
        ingest_file(lake, path, profiles.load(mixed(tmp_path)), progress=grow)
    assert counts(lake) == {}
    assert_no_orphans(lake)
    assert ingest(lake, path, mixed(tmp_path)).rows == 101
