"""Files as sinks: a file takes its name when it is whole."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2kernel.errors import InvalidParameter, listed
from k2kernel.sinks.sink import Sink
from k2kernel.sinks.text import ndjson

if TYPE_CHECKING:
    import pyarrow as pa


class FileSink:
    """A file that is written beside its place and moved there on `close`, over one of that name."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self._part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            self._out = self._open(self._part)
        except OSError as exc:
            raise InvalidParameter("sink", str(path), f"cannot be written: {exc}", "Give another place") from exc

    @abstractmethod
    def _open(self, part: Path) -> Any:
        """What is written to and closed."""

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch."""

    def close(self) -> None:
        """Give the file its name."""
        self._out.close()
        self._part.replace(self.path)

    def discard(self) -> None:
        """Delete what was written."""
        self._out.close()
        self._part.unlink(missing_ok=True)


class NdjsonSink(FileSink):
    """One JSON object a line; prices and sizes are texts, exact."""

    def _open(self, part: Path) -> Any:
        return part.open("w", encoding="utf-8")

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch."""
        self._out.write(ndjson(batch))


class ParquetSink(FileSink):
    """Parquet, zstd."""

    def _open(self, part: Path) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetWriter(part, self.schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch; each becomes a row group."""
        self._out.write_batch(batch)


_BY_SUFFIX = {".ndjson": NdjsonSink, ".jsonl": NdjsonSink, ".parquet": ParquetSink}


def open_sink(sink: Sink | str | Path, schema: pa.Schema) -> Sink:
    """A sink as it is, or the file that a path's suffix asks for."""
    if not isinstance(sink, str | Path):
        return sink
    path = Path(sink)
    if path.suffix not in _BY_SUFFIX:
        raise InvalidParameter("sink", str(sink), "has no suffix to write by", f"Use one of: {listed(_BY_SUFFIX)}")
    return _BY_SUFFIX[path.suffix](path, schema)
