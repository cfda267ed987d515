"""An S3 warehouse as DuckDB reads it: a file system that knows no other place, through pyarrow's S3 client; and what
files a folder of a store has.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from k2kernel.errors import extra

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from pyiceberg.io import FileIO

    from k2kernel.config import Settings

SCHEME = "s3://"


def properties(settings: Settings) -> dict[str, str]:
    """What PyIceberg is to know of the store; what is not set comes from the environment, as AWS tools have it."""
    key, secret = settings.s3_access_key, settings.s3_secret_key
    given = {
        "s3.endpoint": settings.s3_endpoint,
        "s3.region": settings.s3_region,
        "s3.access-key-id": None if key is None else key.get_secret_value(),
        "s3.secret-access-key": None if secret is None else secret.get_secret_value(),
    }
    return {name: value for name, value in given.items() if value is not None}


def file_system(settings: Settings) -> AbstractFileSystem:
    """The warehouse, for `register_filesystem`: DuckDB compares beginnings of paths, and `..` may hide another bucket,
    so each path is looked at again here.
    """
    with extra("s3", "fsspec"):
        from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem

    inside = settings.warehouse_path.removeprefix(SCHEME) + "/"

    class Warehouse(ArrowFSWrapper):  # type: ignore[misc]  # fsspec has no types
        protocol = "s3"

        def _open(self, path: str, mode: str = "rb", *given: Any, **named: Any) -> Any:
            place = path.removeprefix(SCHEME)
            if posixpath.normpath(place) != place or not place.startswith(inside):
                raise PermissionError(f"{path} is outside of the warehouse")
            return super()._open(path, mode, *given, **named)

    known = properties(settings)
    return Warehouse(
        S3FileSystem(
            access_key=known.get("s3.access-key-id"),
            secret_key=known.get("s3.secret-access-key"),
            endpoint_override=known.get("s3.endpoint"),
            region=known.get("s3.region"),
        )
    )


def can_list(io: FileIO) -> bool:
    """True where the files of a folder can be told: by pyarrow's clients."""
    from pyiceberg.io.pyarrow import PyArrowFileIO

    return isinstance(io, PyArrowFileIO)


def listed(io: Any, location: str) -> Iterator[tuple[str, int, float]]:
    """Every file under a location: where, its bytes, and the time (seconds since 1970, by the store) of its change."""
    from pyarrow.fs import FileSelector, FileType

    scheme, host, folder = io.parse_location(location, io.properties)
    selector = FileSelector(folder, allow_not_found=True, recursive=True)
    for found in io.fs_by_scheme(scheme, host).get_file_info(selector):
        if found.type == FileType.File:
            yield f"{scheme}://{found.path}", found.size, found.mtime_ns / 1e9
