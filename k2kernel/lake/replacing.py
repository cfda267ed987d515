"""Which files to take out, and which rows to carry over, when a source is replaced."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from k2kernel.lake.commit import entries

if TYPE_CHECKING:
    import polars as pl
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

    from k2kernel.lake.files import FileSet, LakeFile
    from k2kernel.lake.write import Writer


@dataclass
class Replacement:
    """The rows of `digests` on their way out of a table. `files` gives the files of a table's current snapshot."""

    name: str
    digests: Collection[str]
    writer: Writer
    files: Callable[[Table], FileSet]
    _carried: dict[str, str | None] = field(default_factory=dict)

    @property
    def written(self) -> list[str]:
        """The data files written so far to carry other sources' rows over."""
        return [path for path in self._carried.values() if path is not None]

    def plan(self, table: Table) -> tuple[list[DataFile], list[str]]:
        """The data files to remove, and the paths of files with the rows of other sources that were in them."""
        if not self.digests:
            return [], []
        current = self.files(table)
        touched = [file for file in current if self._may_hold(file)]
        mixed = [file for file in touched if file.source_min is None or file.source_min != file.source_max]
        untouched = {file.path for file in mixed if not self._carry_over(table, file)}
        paths = {file.path for file in touched} - untouched
        carried = [path for name in paths if (path := self._carried.get(name)) is not None]
        return entries(table, current.snapshot_id, paths), carried

    def _may_hold(self, file: LakeFile) -> bool:
        low, high = file.source_min, file.source_max
        return any((low is None or low <= digest) and (high is None or digest <= high) for digest in self.digests)

    def _carry_over(self, table: Table, file: LakeFile) -> bool:
        """Write the rows of other sources to a file of their own; False where the file has no rows of ours."""
        if file.path in self._carried:
            return True
        rows = read_rows(table, file)
        others = rows.filter(~rows["source"].is_in(list(self.digests)))
        if others.height == rows.height:
            return False
        carried = self.writer.write(table, self.name, others, file.session).path if others.height else None
        self._carried[file.path] = carried
        return True


def read_rows(table: Table, file: LakeFile) -> pl.DataFrame:
    """The rows of one data file, less those deleted by position."""
    import polars as pl
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan

    tasks = [task for task in table.scan().plan_files() if task.file.file_path == file.path]
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    return pl.DataFrame(pl.from_arrow(scan.to_table(tasks)))
