"""Every door answers the same: Python, the magics in a real kernel, the command line, and HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

import k2kernel as k2
from k2kernel.cli import query_main
from k2kernel.config import Settings
from tests.doors import HOSTILE, STATEMENTS, Asked, lake_of_doors
from tests.kernels import kernel
from tests.servers import serving

Ask = Callable[[Asked], pa.Table]

RUN = """\
import json, pyarrow as pa
for number, (sql, values, as_of) in enumerate(json.loads(open("asked.json").read())):
    globals().update(values)
    option = f"--as-of {as_of}" if as_of else ""
    get_ipython().run_cell_magic("k2sql", f"--out answer --to arrow {option}", sql)
    with pa.OSFile(f"{number}.arrow", "wb") as file, pa.ipc.new_stream(file, answer.schema) as writer:
        writer.write_table(answer)
"""


def table(source: bytes | Path) -> pa.Table:
    return pa.ipc.open_stream(source if isinstance(source, bytes) else source.read_bytes()).read_all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lake of the doors, and the answer of the magic to each statement."""
    place: Path = tmp_path_factory.mktemp("doors")
    lake_of_doors(Settings(home=place / ".k2"))
    (place / "asked.json").write_text(json.dumps([[asked.sql, asked.params, asked.as_of] for asked in STATEMENTS]))
    with kernel(place) as running:
        ran = running.run(f"%load_ext k2kernel\n{RUN}")
        assert ran.status == "ok", ran.error
    return place


@pytest.fixture(scope="module")
def bench(folder: Path) -> k2.Workbench:
    return k2.connect(folder / ".k2")


@pytest.fixture(scope="module")
def http(folder: Path) -> Iterator[httpx.Client]:
    with serving(folder / ".k2", http_sql=True) as server:
        yield server.client()


def by_http(asked: Asked, http: httpx.Client) -> pa.Table:
    body = {"query": asked.sql, "params": asked.params, "as_of": asked.as_of, "format": "arrow"}
    answer = http.post("/v1/sql", json=body)
    assert answer.status_code == 200, answer.text
    return table(answer.content)


@pytest.fixture
def by_cli(folder: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Ask:
    def ask(asked: Asked) -> pa.Table:
        words = [f"--param={name}={text}" for name, text in asked.params.items()]
        words += [f"--as-of={asked.as_of}"] if asked.as_of else []
        words += ["--home", str(folder / ".k2"), "-o", "arrow", "--", asked.sql]
        monkeypatch.setattr(sys, "argv", ["k2-query", "sql", *words])
        with pytest.raises(SystemExit) as ended:
            query_main()
        out, err = capsysbinary.readouterr()
        assert not ended.value.code, err
        return table(out)

    return ask


@pytest.mark.parametrize("number", range(len(STATEMENTS)), ids=[asked.sql[:60] for asked in STATEMENTS])
def test_equal_rows_through_every_door(
    number: int, folder: Path, bench: k2.Workbench, http: httpx.Client, by_cli: Ask
) -> None:
    asked = STATEMENTS[number]
    expected = bench.sql(asked.sql, asked.params, asked.as_of).to_arrow()
    assert table(folder / f"{number}.arrow").equals(expected)
    assert by_cli(asked).equals(expected)
    assert by_http(asked, http).equals(expected)


def test_there_are_enough_statements() -> None:
    assert len({(asked.sql, asked.as_of, json.dumps(asked.params)) for asked in STATEMENTS}) == len(STATEMENTS) >= 30


def test_a_hostile_value_is_a_value(bench: k2.Workbench) -> None:
    asked = next(each for each in STATEMENTS if each.sql == "SELECT $s AS given" and each.params["s"] == HOSTILE)
    assert bench.sql(asked.sql, asked.params).to_arrow().to_pylist() == [{"given": HOSTILE}]
    assert (
        bench.sql("SELECT count(*) AS n FROM trades WHERE symbol = $s", {"s": HOSTILE}).to_arrow()["n"][0].as_py() == 0
    )
    assert bench.sql("SELECT count(*) AS n FROM trades").to_arrow()["n"][0].as_py() == 34
