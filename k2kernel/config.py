"""Settings: made at the edge, frozen, passed in. Explicit beats environment beats `.env` beats default."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from k2kernel.errors import InvalidParameter

_HOME = ".k2"


def find_home() -> Path:
    """The nearest `.k2` folder in the working directory or its parents, else `.k2` in the working directory."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / _HOME).is_dir():
            return folder / _HOME
    return here / _HOME


def _amount(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)? ?([KMGT]i?)?B", text, re.IGNORECASE):
        raise ValueError("is no amount of memory such as 2GB or 500MB")
    return text


Memory = Annotated[str, AfterValidator(_amount)]


class Settings(BaseSettings):
    """Where the lake is and how much it may use. Each field is also `K2_<FIELD>` in the environment or in `.env`.

    InvalidParameter, which names the first that is wrong.
    """

    model_config = SettingsConfigDict(
        env_prefix="K2_", env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as exc:
            first = exc.errors()[0]
            name, problem = "_".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            raise InvalidParameter(f"K2_{name.upper()}", first["input"], problem[:1].lower() + problem[1:]) from None

    home: Path = Field(default_factory=find_home, description="folder of everything the embedded default keeps")
    catalog_uri: SecretStr | None = Field(
        default=None, description="SQLAlchemy or REST URI of the catalog; default: SQLite under K2_HOME"
    )
    warehouse: str | None = Field(
        default=None, description="folder or `s3://bucket/prefix` of data files; default: a folder under K2_HOME"
    )
    s3_endpoint: str | None = Field(
        default=None, description="URL of the store of an `s3://` warehouse; default: that of AWS"
    )
    s3_region: str | None = Field(default=None, description="its region; default: as AWS tools find it")
    s3_access_key: SecretStr | None = Field(default=None, description="its access key; default: as AWS tools find it")
    s3_secret_key: SecretStr | None = Field(default=None, description="its secret key; default: as AWS tools find it")
    memory_limit: Memory = Field(default="2GB", description="memory that DuckDB may use, all queries together")
    engine: Literal["duckdb", "spark"] = Field(default="duckdb", description="what runs SQL statements")
    spark_url: SecretStr | None = Field(
        default=None, description="Spark Connect server of the engine `spark`, `sc://host:port`"
    )
    spark_catalog: str = Field(default="k2", description="what Spark calls the catalog of the tables")
    threads: int | None = Field(default=None, ge=1, description="threads that DuckDB may use; default: all cores")
    ingest_buffer_rows: int = Field(
        default=1_000_000, ge=1_000, description="rows held in memory before an ingest writes a sorted file"
    )
    replay_memory: Memory = Field(default="200MB", description="memory that DuckDB may use for replays, all together")
    replay_slice_rows: int = Field(default=250_000, ge=1_000, description="about how many rows a replay sorts at once")
    kafka_bootstrap: str | None = Field(default=None, description="brokers, `host:port` with commas between")
    schema_registry_url: str | None = Field(default=None, description="URL of the registry's Confluent API")
    schema_register: bool = Field(
        default=True, description="whether a producer may register schemas; in production `false`: only known ones"
    )
    row_group_rows: int = Field(default=65_536, ge=2_048, description="rows in a Parquet row group")
    api_keys: SecretStr | None = Field(
        default=None, description="keys of the server, as `name:key,name:key`; default: a random one, printed at start"
    )
    api_keys_file: Path | None = Field(
        default=None, description="TOML file of hashed keys of the server with their limits, see `k2 serve --new-key`"
    )
    http_host: str = Field(default="127.0.0.1", description="address that the server listens at")
    http_port: int = Field(default=8000, ge=0, le=65_535, description="port that the server listens at")
    http_rate: int = Field(default=100, ge=1, description="requests a minute that each key may make")
    http_timeout: float = Field(
        default=30, gt=0, description="seconds after which a query of the server is interrupted"
    )
    http_max_rows: int = Field(default=10_000_000, ge=1, description="rows that one answer of the server may have")
    http_max_body: int = Field(default=1_000_000, ge=1, description="bytes that the body of a request may have")
    http_queries: int = Field(default=4, ge=1, description="queries that the server runs at once; others wait")
    http_streams: int = Field(default=16, ge=1, description="exports and replays that the server streams at once")
    http_sql: bool = Field(default=False, description="whether the server runs SQL statements")
    http_cors: str | None = Field(
        default=None, description="origins, joined by commas, whose pages may call the server; default: none"
    )
    http_secret: SecretStr | None = Field(
        default=None, description="what cursors are signed with; default: random, so cursors end with the server"
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65_535, description="port where sinks, schedules and ingests show their metrics"
    )
    metrics_host: str = Field(default="127.0.0.1", description="address of that port")
    metrics_textfile: Path | None = Field(
        default=None, description="`.prom` file that a command writes its metrics to at its end"
    )
    metrics_folder: Path | None = Field(
        default=None, description="folder in which the processes of one server add up their metrics"
    )

    keep_last: int = Field(default=20, ge=1, description="newest states of a table that expiry always keeps")
    keep_every: str = Field(default="1h", description="how long expiry keeps every state")
    keep_hourly: str = Field(default="2d", description="how long expiry keeps the last state of each hour (UTC)")
    keep_daily: str = Field(default="90d", description="how long expiry keeps the last state of each day (UTC)")
    audit_log: Path | None = Field(
        default=None,
        description="file that gets a JSON line for each use of the command line and the magics; default: none",
    )
    orphan_age: str = Field(default="3d", description="age from which a file that no state refers to is an orphan")

    @cached_property
    def warehouse_path(self) -> str:
        """The warehouse location as an absolute path or URI, without a trailing slash."""
        place = self.warehouse or str(self.home / "warehouse")
        if "://" in place:
            return place.removeprefix("file://").rstrip("/")
        return str(Path(place).expanduser().absolute())

    @cached_property
    def catalog_url(self) -> str:
        """The catalog's URI in the clear, for the catalog's constructor only."""
        if self.catalog_uri is not None:
            return self.catalog_uri.get_secret_value()
        return f"sqlite:///{(self.home / 'catalog.db').absolute()}"

    @property
    def on_s3(self) -> bool:
        """True where the warehouse is in an object store."""
        return self.warehouse_path.startswith("s3://")

    @property
    def embedded(self) -> bool:
        """True where the catalog is the SQLite file under `home`."""
        return self.catalog_uri is None
