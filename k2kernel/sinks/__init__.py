"""Where replays and exports write: Arrow batches in, a file out. A broker can be one more `Sink`."""

from k2kernel.sinks.files import NdjsonSink, ParquetSink, open_sink
from k2kernel.sinks.formats import FORMATS, batches_of, encode, records_table
from k2kernel.sinks.sink import Sink
from k2kernel.sinks.text import as_text, ndjson
from k2kernel.times import parse_zone

__all__ = [
    "FORMATS",
    "NdjsonSink",
    "ParquetSink",
    "Sink",
    "as_text",
    "batches_of",
    "encode",
    "ndjson",
    "open_sink",
    "parse_zone",
    "records_table",
]
