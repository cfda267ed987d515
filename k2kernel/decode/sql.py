"""A locked DuckDB for what profiles say in SQL and for JSON paths: it sees the batch and nothing else."""

from __future__ import annotations

import re

import duckdb
import polars as pl

from k2kernel.errors import ProfileError


class Evaluator:
    """Evaluates row-wise SQL over a batch of text columns, in UTC, without access to files or settings."""

    def __init__(self) -> None:
        self._con = duckdb.connect(":memory:")
        self._con.execute("SET TimeZone='UTC'; SET preserve_insertion_order=true; SET python_enable_replacements=false")
        self._con.execute("SET enable_external_access=false; SET lock_configuration=true")

    def check(self, expression: str, profile: str) -> None:
        """Refuse what is not one expression over the columns of a row."""
        try:
            found = duckdb.extract_statements(f"SELECT ({expression})")
        except duckdb.Error as exc:
            raise ProfileError(profile, f"expr {expression!r}", str(exc).splitlines()[0]) from exc
        if len(found) != 1 or re.search(r"\bselect\b", expression, re.IGNORECASE):
            raise ProfileError(profile, f"expr {expression!r}", "is not one expression over the row's columns")

    def rows(self, frame: pl.DataFrame, expressions: dict[str, str], profile: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Text columns of the results, by the names given, and which of them failed, row by row."""
        parts = ", ".join(
            f"TRY(struct_pack(v := CAST(({text}) AS VARCHAR))) AS {_name(name)}" for name, text in expressions.items()
        )
        try:
            result = self._run(f"SELECT {parts} FROM batch", frame)
        except duckdb.Error as exc:
            raise ProfileError(profile, "expr", str(exc).splitlines()[0], "Correct the expression") from exc
        if len(result) != len(frame):
            raise ProfileError(profile, "expr", "does not give one value for each row", "Correct the expression")
        values = result.select(pl.col(name).struct.field("v").alias(name) for name in result.columns)
        return values, result.select(pl.all().is_null())

    def json(self, texts: pl.Series, quoted: pl.Series, paths: list[str]) -> pl.Series:
        """A struct: `valid` (the text is a JSON object) and `c0`, `c1`, … what `quoted` has at each path, or null."""
        fields = ", ".join(f"c{n} := found[{n + 1}]" for n in range(len(paths)))
        query = f"""
            SELECT struct_pack(valid := ok, {fields}) AS s FROM (
                SELECT ok, CASE WHEN ok THEN json_extract_string(quoted, $paths) END AS found FROM (
                    SELECT quoted, json IS NOT NULL AND json_valid(json) AND left(ltrim(json), 1) = '{{' AS ok
                    FROM batch))"""
        return self._run(query, pl.DataFrame({"json": texts, "quoted": quoted}), paths=paths).to_series()

    def _run(self, query: str, frame: pl.DataFrame, **parameters: object) -> pl.DataFrame:
        self._con.register("batch", frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
        try:
            return pl.DataFrame(pl.from_arrow(self._con.sql(query, params=parameters or None).to_arrow_table()))
        finally:
            self._con.unregister("batch")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
