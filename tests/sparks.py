"""A Spark Connect server on the loopback address whose catalog `k2` is that of a lake, for tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from k2kernel.services.process import Process, answers, free_ports
from k2kernel.services.servers import cache
from tests.support import missing_service

JARS = cache().parent / "spark"
_START_S = 120.0
_MODULES = (
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.security.action"),
    "sun.util.calendar",
)
"""What Spark opens of Java's own modules, as its start script does."""


@contextmanager
def spark_server(folder: Path, home: Path) -> Iterator[str]:
    """The `sc://` address of a server that logs in `folder` and reads the embedded lake at `home`."""
    if shutil.which("java") is None or not list(JARS.glob("iceberg-spark-runtime-*.jar")):
        missing_service("Spark", "install Java 17 and Maven, and run `make .services`")
    port = free_ports(1)[0]
    process = Process.start("spark", [*_java(), *_submit(port, home)], folder)
    try:
        process.ready(lambda: answers(port), _START_S)
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.stop()


def _java() -> list[str]:
    opens = [f"--add-opens=java.base/{module}=ALL-UNNAMED" for module in _MODULES]
    return ["java", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *opens, "-cp", f"{JARS}/*"]


def _submit(port: int, home: Path) -> list[str]:
    catalog = "spark.sql.catalog.k2"
    conf = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": 1,
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "jdbc",
        f"{catalog}.uri": f"jdbc:sqlite:{home / 'catalog.db'}",
        f"{catalog}.warehouse": f"file://{home / 'warehouse'}",
        f"{catalog}.cache-enabled": "false",
    }
    words = [word for name, value in conf.items() for word in ("--conf", f"{name}={value}")]
    server = "org.apache.spark.sql.connect.service.SparkConnectServer"
    return ["org.apache.spark.deploy.SparkSubmit", "--master", "local[2]", "--class", server, *words, "spark-internal"]
