"""PyIceberg's file access for a local warehouse.

PyIceberg's own choices import pyarrow's file systems or fsspec, which takes longer than the rest of a cold read.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream

IMPLEMENTATION = f"{__name__}.LocalFileIO"
"""What the catalog's property `py-io-impl` wants to hear."""


def local_path(location: str) -> Path:
    """The path of a local location, which may be a `file:` URI."""
    return Path(location.removeprefix("file://").removeprefix("file:"))


def opened(location: str) -> str:
    """What DuckDB opens: a local location as a path, any other as it is."""
    return location if "://" in location and not location.startswith("file:") else str(local_path(location))


class LocalFile(InputFile, OutputFile):
    """One local file, to read or to write."""

    def __len__(self) -> int:
        return local_path(self.location).stat().st_size

    def exists(self) -> bool:
        """True where there is such a file."""
        return local_path(self.location).exists()

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002 - of the interface
        """A stream to read from."""
        stream: BinaryIO = local_path(self.location).open("rb")
        return stream

    def create(self, overwrite: bool = False) -> OutputStream:
        """A stream to write to; FileExistsError where the file exists, unless `overwrite`."""
        path = local_path(self.location)
        path.parent.mkdir(parents=True, exist_ok=True)
        stream: BinaryIO = path.open("wb" if overwrite else "xb")
        return stream

    def to_input_file(self) -> LocalFile:
        """The same file, to read."""
        return self


class LocalFileIO(FileIO):
    """PyIceberg's interface to files, for the local disk."""

    def new_input(self, location: str) -> LocalFile:
        """The file at `location`, to read."""
        return LocalFile(location)

    def new_output(self, location: str) -> LocalFile:
        """The file at `location`, to write."""
        return LocalFile(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Remove a file, if there is one: two commits may both find that a metadata file has become too many."""
        local_path(location if isinstance(location, str) else location.location).unlink(missing_ok=True)
