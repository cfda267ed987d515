"""The lake: Iceberg tables behind one catalog, their data files, commits, snapshots and provenance."""

from k2kernel.lake.files import FileSet, LakeFile
from k2kernel.lake.lake import Lake
from k2kernel.lake.offsets import Claim
from k2kernel.lake.pins import Pin
from k2kernel.lake.provenance import Provenance, SourceRecord
from k2kernel.lake.repeats import Repeat, Repeats
from k2kernel.lake.rollback import Rollback
from k2kernel.lake.snapshots import Reference, Snapshot
from k2kernel.lake.upkeep import Upkeep
from k2kernel.lake.write import DataFile

__all__ = [
    "Claim",
    "DataFile",
    "FileSet",
    "Lake",
    "LakeFile",
    "Pin",
    "Provenance",
    "Reference",
    "Repeat",
    "Repeats",
    "Rollback",
    "Snapshot",
    "SourceRecord",
    "Upkeep",
]
