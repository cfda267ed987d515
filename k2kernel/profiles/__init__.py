"""Vendor formats as data: `load` reads one by name or path, `shipped` lists those that come with the package."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from pydantic import ValidationError

from k2kernel.errors import ProfileError, UnknownProfile
from k2kernel.profiles.describe import describe
from k2kernel.profiles.model import Case, Format, Lookup, Profile, Route, Skip, Value, When

__all__ = [
    "Case",
    "Format",
    "Lookup",
    "Profile",
    "Route",
    "Skip",
    "Value",
    "When",
    "describe",
    "load",
    "shipped",
    "source",
]

_FOLDER = Path(__file__).parent


def shipped() -> list[str]:
    """The names of the profiles that come with the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load(name: str | Path, home: Path | None = None) -> Profile:
    """The profile `name`: a shipped one, one in `home/profiles`, or the path of a TOML file."""
    path = _find(str(name), home)
    text = path.read_bytes()
    try:
        data = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ProfileError(str(name), str(path), f"is not TOML: {exc}") from exc
    data.setdefault("name", path.stem)
    try:
        profile = Profile.model_validate(data | {"path": str(path)})
        return profile.model_copy(update={"digest": _digest(profile)})
    except ValidationError as exc:
        raise _first_fault(str(name), exc) from exc


def source(profile: Profile) -> str:
    """The TOML that the profile was read from."""
    return Path(profile.path).read_text(encoding="utf-8")


def _digest(profile: Profile) -> str:
    """Of what decides how a file is read, so that a better title or note does not make another profile."""
    return hashlib.sha256(profile.model_dump_json(include={"file", "route", "skip"}).encode()).hexdigest()


def _find(name: str, home: Path | None) -> Path:
    own = [home / "profiles" / f"{name}.toml"] if home else []
    for path in (*own, _FOLDER / f"{name}.toml", Path(name)):
        if path.suffix == ".toml" and path.is_file():
            return path
    raise UnknownProfile(name, shipped())


def _first_fault(name: str, exc: ValidationError) -> ProfileError:
    fault = exc.errors()[0]
    where = ".".join(str(part) for part in fault["loc"] if not str(part).startswith("function-")) or "the profile"
    message = fault["msg"].removeprefix("Value error, ")
    more = f" (and {exc.error_count() - 1} more)" if exc.error_count() > 1 else ""
    return ProfileError(name, where, message + more, "`k2 profiles show NAME` prints a working one")
