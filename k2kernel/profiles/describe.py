"""A profile in words."""

from __future__ import annotations

from k2kernel.profiles.model import Format, Profile, Route, Value, When


def describe(profile: Profile) -> str:
    """What it reads, what it asks for, what it makes of each column, and what it drops; ends in a line feed."""
    tried = "tried on real files" if profile.tried else "made from the vendor's documents, not tried on real files"
    lines = [
        f"{profile.name}: {profile.title}",
        f"  {tried}",
        *(f"  {line}" for line in profile.notes.split("\n") if line),
    ]
    lines.append(f"  file: {_format(profile.file)}")
    lines.append(f"  options: {', '.join(f'--{name}' for name in profile.options) or 'none'}")
    for route in profile.route:
        lines += ["", *_route(route)]
    if profile.skip is not None:
        lines += ["", "  other rows are skipped and counted" + (" by kind" if profile.skip.kind else "")]
    lines += ["", f"  drops: {', '.join(profile.dropped()) or 'nothing that it names'}"]
    return "\n".join(lines) + "\n"


def _format(form: Format) -> str:
    if form.format == "parquet":
        return "Parquet"
    kind = "JSON lines" if form.format == "ndjson" else f"text delimited by {form.delimiter!r}"
    header = "" if form.format == "ndjson" else ", with a header" if form.header else ", without a header"
    return f"{kind}{header}, {form.encoding}"


def _route(route: Route) -> list[str]:
    when = " and ".join(map(_when, route.when))
    width = max(map(len, route.columns))
    lines = [f"  {route.table}" + (f", where {when}" if when else "")]
    lines += [f"    {name:<{width}}  {_value(value)}" for name, value in route.columns.items()]
    kept = ["every other column" if name == "*" else name for name in route.keep]
    return [*lines, f"    {'extra':<{width}}  {', '.join(kept)}"] if kept else lines


def _when(test: When) -> str:
    if test.expr:
        return test.expr
    words = [
        f"is {test.equals!r}" if test.equals is not None else "",
        f"is one of {', '.join(test.one_of)}" if test.one_of is not None else "",
        f"has /{test.matches}/" if test.matches is not None else "",
        "" if test.empty is None else "is empty" if test.empty else "is not empty",
    ]
    return f"{test.column} " + " and ".join(word for word in words if word)


def _value(value: Value) -> str:
    origins = [f"--{value.option}"] if value.option else []
    origins += [f"{case.value} where {_when(case.when)}" for case in value.cases]
    origins += [value.expr] if value.expr else []
    origins += [" + ".join(value.columns or [value.column or ""])] if value.columns or value.column else []
    origins += [f"path /{value.path}/"] if value.path else []
    origins += [repr(value.constant)] if value.constant is not None else []
    if value.date is not None:
        origins[-1:] = [f"{origins[-1]} on the day of {_value(value.date)}"]
    how = [
        value.layout or "",
        f"{value.unit} since {value.since}" if value.unit else "",
        value.zone or value.offset or "",
    ]
    shown = ", else ".join(origins) + "".join(f", {part}" for part in how if part)
    if value.lookup:
        shown += f", looked up in {value.lookup.place}"
    return shown + (" (optional)" if value.optional else "")
