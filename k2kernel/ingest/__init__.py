"""The write path: source, decode, append, acknowledge."""

from k2kernel.ingest.files import ingest_file, preview_file
from k2kernel.ingest.guess import guess
from k2kernel.ingest.known import Options
from k2kernel.ingest.progress import Progress, shown
from k2kernel.ingest.receipt import Account, Receipt, TableReceipt
from k2kernel.ingest.workers import Loaded, ingest_files

__all__ = [
    "Account",
    "Loaded",
    "Options",
    "Progress",
    "Receipt",
    "TableReceipt",
    "guess",
    "ingest_file",
    "ingest_files",
    "preview_file",
    "shown",
]
