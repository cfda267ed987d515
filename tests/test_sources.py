"""Files as members: what a zip offers, and what it may not."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import pytest

from k2kernel.errors import FileFault
from k2kernel.sources import members


def test_what_desktop_archivers_add_is_no_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("day/a.csv", "__MACOSX/day/._a.csv", "day/.DS_Store", "day/b.csv"):
            archive.writestr(name, "x\n")
    assert [member.inner for member in members(tmp_path / "a.zip")] == ["day/a.csv", "day/b.csv"]


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns when it writes the second one
        archive.writestr("a.csv", "x\n")
        archive.writestr("a.csv", "y\n")
    with pytest.raises(FileFault, match=r"several members named a\.csv"):
        members(tmp_path / "a.zip")
