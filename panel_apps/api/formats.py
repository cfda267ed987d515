"""Which format an answer has: by the word `format`, else by the Accept header, else JSON."""

from __future__ import annotations

from panel_apps.api.problems import Refused
from panel_apps.api.words import Format

MEDIA_TYPES = {
    Format.json: "application/json",
    Format.ndjson: "application/x-ndjson",
    Format.csv: "text/csv; charset=utf-8",
    Format.parquet: "application/vnd.apache.parquet",
    Format.arrow: "application/vnd.apache.arrow.stream",
}
_ACCEPTED = {media_type.partition(";")[0]: form for form, media_type in MEDIA_TYPES.items()} | {
    "application/ndjson": Format.ndjson,
    "application/*": Format.json,
    "text/*": Format.csv,
    "*/*": Format.json,
}


def wanted(asked: Format | None, accept: str | None) -> Format:
    """The format of an answer; Refused where the Accept header names none of ours."""
    if asked is not None or not accept:
        return asked or Format.json
    ranked = sorted(map(_ranked, accept.split(",")), key=lambda found: found[0], reverse=True)
    for quality, media_type in ranked:
        if quality > 0 and media_type in _ACCEPTED:
            return _ACCEPTED[media_type]
    raise Refused(406, "not-acceptable", f"Accept one of: {', '.join(sorted(_ACCEPTED))}; or give format=")


def _ranked(item: str) -> tuple[float, str]:
    media_type, *parameters = (part.strip().lower() for part in item.split(";"))
    quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
    try:
        return float(quality), media_type
    except ValueError:
        return 0.0, media_type
