"""Sequence numbers that contradict the order of rows at one time: the ordinal takes their place."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.sources import files as source_files
from tests.ingest_files import BASE, HEADER, MIXED, ingest, mixed, rows_of, write

NOTE = "rows are ordered by their place in the file, the numbers are in extra"


def row(n: int, sequence: object, at: int = 0, symbol: str = "A", kind: str = "T") -> str:
    return f"{kind},{BASE + at * 1_000},{symbol},{sequence},{n}.5,{n + 1}"


def sequences(lake: Lake, table: str = "trades") -> list[int]:
    return rows_of(lake, table).sort("source_offset")["sequence"].to_list()


def own(lake: Lake, table: str = "trades") -> list[str | None]:
    """What `extra` keeps of the file's own numbers."""
    texts = rows_of(lake, table).sort("source_offset")["extra"]
    return [None if text is None else json.loads(text).get("sequence") for text in texts]


@pytest.mark.parametrize("nbytes", [40, 200, 1 << 24])
@pytest.mark.parametrize("apart", [0, 5, 60])
def test_a_decrease_at_equal_time_is_found_across_blocks_and_buffers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nbytes: int, apart: int
) -> None:
    monkeypatch.setattr(source_files, "BLOCK_BYTES", nbytes)
    lake = Lake.open(Settings(home=tmp_path / "lake", ingest_buffer_rows=1_000), create=True)
    others = [row(n, 10 + n, at=1 + n, symbol="B") for n in range(apart)]
    path = write(tmp_path / "a.csv", [row(0, 5), *others, row(1, 4), row(2, 6)])
    receipt = ingest(lake, path, mixed(tmp_path))
    assert sequences(lake) == list(range(1, apart + 4))
    numbers = [5, *range(10, 10 + apart), 4, 6]
    kept = [None if number == line else str(number) for line, number in enumerate(numbers, start=1)]
    assert own(lake) == kept
    assert receipt.notes == (f"trades: the sequence number decreases at line {apart + 2}: {NOTE}",)
    assert (receipt.rows, receipt.lines) == (apart + 3, apart + 3)
    assert ingest(lake, path, mixed(tmp_path)).duplicate == apart + 3


@pytest.mark.parametrize(("keep", "wanted"), [("seq", "000004"), ("a", "4")])
def test_a_number_that_is_kept_already_is_not_written_twice(tmp_path: Path, keep: str, wanted: str) -> None:
    lake = Lake.open(Settings(home=tmp_path / "lake"), create=True)
    text = MIXED.replace('"seq"', '"sequence"').replace("[route.columns]", f'keep = ["{keep}"]\n[route.columns]', 1)
    profile = mixed(tmp_path, text.replace('keep = ["seq"]', 'keep = ["sequence"]'))
    ingest(lake, write(tmp_path / "a.csv", [row(0, 5), row(1, "000004")]), profile)
    texts = rows_of(lake, "trades").sort("source_offset")["extra"].to_list()
    assert [text.count('"sequence"') for text in texts] == [1, 1]
    assert json.loads(texts[1])["sequence"] == wanted


@pytest.mark.parametrize("nbytes", [40, 1 << 24])
@pytest.mark.parametrize(
    "rows",
    [
        [row(0, 5), row(1, 4, at=1), row(2, 3, at=2)],
        [row(0, 5), row(1, 4, symbol="B"), row(2, 5)],
        [row(0, 9, at=3), row(1, 1, at=1), row(2, 2, at=2)],
        [row(0, 5), row(1, 5), row(2, 5)],
        [row(0, 5, kind="T"), row(1, 4, kind="Q"), row(2, 6)],
        [row(0, 5), row(1, ""), row(2, 6)],
    ],
    ids=["other times", "other instruments", "late rows", "equal numbers", "other table", "a missing number"],
)
def test_other_decreases_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nbytes: int, rows: list[str]
) -> None:
    if '",' in rows[1] or rows[1].split(",")[3] == "":
        rows = [rows[0].replace(",5,", ",1,"), *rows[1:]]  # the missing one becomes line 2
    monkeypatch.setattr(source_files, "BLOCK_BYTES", nbytes)
    lake = Lake.open(Settings(home=tmp_path / "lake"), create=True)
    assert ingest(lake, write(tmp_path / "a.csv", rows), mixed(tmp_path)).notes == ()
    assert own(lake) == [None] * len(rows_of(lake, "trades"))


def test_late_rows_are_compared_with_those_of_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "BLOCK_BYTES", 50)
    lake = Lake.open(Settings(home=tmp_path / "lake"), create=True)
    rows = [row(0, 5, at=1), row(1, 6, at=2), row(2, 7, at=3), row(3, 4, at=1)]
    assert (
        ingest(lake, write(tmp_path / "a.csv", rows), mixed(tmp_path))
        .notes[0]
        .startswith("trades: the sequence number decreases at line 4")
    )


def test_extra_keeps_what_else_it_had(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"2024-03-04T15:00:00Z,BHP,XASX,{n},1.5,100,,a {{}} b\n" for n in (9, 8, 4)]
    path.write_text(HEADER.strip() + ",note\n" + "".join(rows))
    ingest(lake, path, "k2-trades")
    found = [json.loads(text) for text in rows_of(lake, "trades").sort("source_offset")["extra"]]
    assert found == [{"note": "a {} b", "sequence": "9"}, {"note": "a {} b", "sequence": "8"}, {"note": "a {} b"}]


def test_only_the_members_concerned_are_ordered_by_line(lake: Lake, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("good.csv", "\n".join([row(0, 70), row(1, 71)]))
        archive.writestr("bad.csv", "\n".join([row(0, 51), row(1, 50)]))
        archive.writestr("worse.csv", "\n".join([row(0, 31), row(1, 30)]))
        archive.writestr("late.csv", "\n".join([row(0, 91), row(1, 92)]))
    receipt = ingest(lake, tmp_path / "all.zip", mixed(tmp_path))
    assert sorted(sequences(lake)) == [1, 1, 2, 2, 70, 71, 91, 92]
    assert [note.split(",")[0] for note in receipt.notes] == ["bad.csv", "worse.csv"]
    assert (receipt.rows, receipt.lines) == (8, 8)
