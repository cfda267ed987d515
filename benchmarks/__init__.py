"""Measurements beside DuckDB and Polars on the same files: `make bench`."""
