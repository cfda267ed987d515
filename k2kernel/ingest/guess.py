"""Which shipped profile fits a file: each is tried on its first lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from k2kernel import profiles
from k2kernel.decode import Decoder
from k2kernel.errors import FileFault, InvalidParameter, K2Error
from k2kernel.ingest.lookups import resolve
from k2kernel.lake import Lake
from k2kernel.profiles import Profile
from k2kernel.sources import members

_HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Fit:
    """A profile that decodes the first lines of a file without a reject, and how much of the file it names."""

    profile: Profile
    named: int


def guess(lake: Lake | None, home: Path, path: Path) -> Profile | None:
    """The shipped or own profile that reads the file's first lines best, or None.

    A profile whose `match` is not in the path, or that rejects a line, does not fit. Of those that fit, one with a
    `match` comes first, then the one that names most of the file's columns, then by name.
    """
    names = sorted({*profiles.shipped(), *(own.stem for own in (home / "profiles").glob("*.toml"))})
    fits = [fit for name in names if (fit := _fit(lake, home, path, profiles.load(name, home))) is not None]
    fits.sort(key=lambda fit: (fit.profile.match is None, -fit.named, fit.profile.name))
    return fits[0].profile if fits else None


def _fit(lake: Lake | None, home: Path, path: Path, profile: Profile) -> Fit | None:
    try:
        member = replace(members(path, profile.file.members)[0], head=_HEAD_BYTES)
        if profile.match and not re.search(profile.match, member.name):
            return None
        return _tried(Decoder(profile, member, {}, home, resolve(lake, profile)), profile)
    except (FileFault, InvalidParameter):
        return None


def _tried(decoder: Decoder, profile: Profile) -> Fit | None:
    try:
        decoded = next(decoder.batches(), None)
    except K2Error:
        return None
    if decoded is None or len(decoded.rejected):
        return None
    nothing = not any(map(len, decoded.tables.values())) and not decoded.skipped.get("no_records")
    return None if nothing else Fit(profile, len(profile.references & set(decoder.columns)))
