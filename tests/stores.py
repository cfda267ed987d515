"""Catalogs and stores that are not embedded: Iceberg's own REST catalog over a real S3 server, and PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from k2kernel.services.process import Process, answers, free_ports
from k2kernel.services.servers import cache
from tests.support import missing_service

BUCKET, OTHER = "lake", "other"
_START_S = 60.0


@contextmanager
def running(name: str, command: list[str], folder: Path, environment: Mapping[str, str], port: int) -> Iterator[None]:
    """A server process from when it answers at its port until the end of the block."""
    words = ["env", *(f"{key}={value}" for key, value in environment.items()), *command]
    process = Process.start(name, words, folder)
    try:
        process.ready(lambda: answers(port), _START_S)
        yield
    finally:
        process.stop()


@contextmanager
def s3(folder: Path) -> Iterator[dict[str, str]]:
    """The settings that lead to an S3 server with two buckets."""
    server = cache() / "bin" / "versitygw"
    if not server.exists():
        missing_service("an S3 server", "install Go and run `make .services`")
    for bucket in (BUCKET, OTHER):
        (folder / bucket).mkdir(parents=True)
    (port,) = free_ports(1)
    key = {"ROOT_ACCESS_KEY": "tests", "ROOT_SECRET_KEY": "only-for-tests"}
    command = [str(server), "--quiet", "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    with running("s3", command, folder.parent, key, port):
        url = f"http://127.0.0.1:{port}"
        named = {"s3_endpoint": url, "s3_region": "us-east-1", "s3_access_key": "tests"}
        yield {**named, "s3_secret_key": "only-for-tests"}


@contextmanager
def rest(folder: Path, store: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The settings that lead to a REST catalog whose tables are in the bucket."""
    jars = cache() / "catalog"
    if shutil.which("java") is None or not jars.exists():
        missing_service("an Iceberg REST catalog", "install Java 17 and Maven, and run `make .services`")
    (port,) = free_ports(1)
    properties = {
        "CATALOG_WAREHOUSE": f"s3://{BUCKET}/warehouse",
        "CATALOG_IO__IMPL": "org.apache.iceberg.aws.s3.S3FileIO",
        "CATALOG_S3_ENDPOINT": store["s3_endpoint"],
        "CATALOG_S3_PATH__STYLE__ACCESS": "true",
        "CATALOG_S3_ACCESS__KEY__ID": store["s3_access_key"],
        "CATALOG_S3_SECRET__ACCESS__KEY": store["s3_secret_key"],
        "CATALOG_URI": f"jdbc:sqlite:{folder}/rest.db",
        "CATALOG_REST_PORT": str(port),
        "AWS_REGION": "us-east-1",
    }
    command = ["java", "-Xmx300m", "-XX:+UseSerialGC", "-cp", f"{jars}/*", "org.apache.iceberg.rest.RESTCatalogServer"]
    with running("catalog", command, folder, properties, port):
        yield {"catalog_uri": f"http://127.0.0.1:{port}", "warehouse": f"s3://{BUCKET}/warehouse", **store}


@contextmanager
def postgres(folder: Path) -> Iterator[dict[str, str]]:
    """The settings that lead to a catalog in PostgreSQL; files are on the disk."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        missing_service("PostgreSQL", "apt-get install postgresql")
    data = folder / "postgres"
    data.mkdir()
    (port,) = free_ports(1)
    become: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        become = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        for each in (folder, *folder.parents):
            if each.owner() == "root" and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)
    tools = found[-1].parent
    command = f"{tools}/initdb -D {data} -U tests -A trust >/dev/null && exec {tools}/postgres -D {data} -p {port} "
    command += f"-h 127.0.0.1 -k {data}"
    with running("postgres", [*become, "sh", "-c", command], folder, {}, port):
        yield {
            "catalog_uri": f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres",
            "warehouse": str(folder / "warehouse"),
        }


KINDS = ("embedded", pytest.param("postgres", marks=pytest.mark.long), "rest and s3")


@pytest.fixture(scope="session", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of a lake of each kind."""
    folder = tmp_path_factory.mktemp("store")
    with ExitStack() as closing:
        if request.param == "postgres":
            yield closing.enter_context(postgres(folder))
        elif request.param == "rest and s3":
            yield closing.enter_context(rest(folder, closing.enter_context(s3(folder / "buckets"))))
        else:
            yield {}
