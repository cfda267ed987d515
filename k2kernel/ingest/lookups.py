"""The texts that a profile's lookups replace, read before its file is."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from k2kernel.errors import ProfileError
from k2kernel.lake import Lake
from k2kernel.profiles import Lookup, Profile


def resolve(lake: Lake | None, profile: Profile) -> dict[Lookup, dict[str, str]]:
    """Each lookup of the profile as a mapping; a text that stands for two different ones is left out.

    Where there is no lake yet, its tables are empty.
    """
    return {lookup: _mapping(_frame(lake, profile, lookup)) for lookup in profile.lookups}


def _frame(lake: Lake | None, profile: Profile, lookup: Lookup) -> pl.DataFrame:
    columns = (lookup.source, lookup.target)
    if lookup.table is not None:
        if lake is None:
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        found = pl.from_arrow(lake.table(lookup.table).scan(selected_fields=columns).to_arrow())
        return pl.DataFrame(found).select(columns)
    path = Path(profile.path).parent / str(lookup.file)
    try:
        return pl.read_csv(path, infer_schema=False).select(columns)
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise ProfileError(
            profile.name, f"lookup {path}", str(exc).splitlines()[0], "Correct the file or its columns"
        ) from exc


def _mapping(frame: pl.DataFrame) -> dict[str, str]:
    source, target = frame.columns
    single = (
        frame.drop_nulls().unique().group_by(source).agg(pl.col(target).first(), n=pl.len()).filter(pl.col("n") == 1)
    )
    return dict(zip(single[source].cast(pl.String), single[target].cast(pl.String), strict=True))
