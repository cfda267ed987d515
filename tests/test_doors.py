"""Every door answers the same: Python, the magics in a real kernel, the command line, and HTTP."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

import k2kernel as k2
from k2kernel.cli import query_main
from k2kernel.config import Settings
from k2kernel.errors import K2Error
from tests.doors import HOSTILE, STATEMENTS, WRONG, WRONG_WORDS, Asked, lake_of_doors
from tests.kernels import kernel
from tests.servers import serving

Command = Callable[..., tuple[int, bytes, str]]

RUN = """\
import json, pyarrow as pa
from k2kernel.errors import K2Error
for number, (sql, values, as_of) in enumerate(json.loads(open("asked.json").read())):
    globals().update(values)
    option = f"--as-of {as_of}" if as_of else ""
    get_ipython().run_cell_magic("k2sql", f"--out answer --to arrow {option}", sql)
    with pa.OSFile(f"{number}.arrow", "wb") as file, pa.ipc.new_stream(file, answer.schema) as writer:
        writer.write_table(answer)
said = []
for sql, _, as_of in json.loads(open("wrong.json").read()):
    try:
        get_ipython().run_cell_magic("k2sql", f"--as-of {as_of}" if as_of else "", sql)
    except K2Error as error:
        said.append(str(error))
open("said.json", "w").write(json.dumps(said))
"""


def table(source: bytes | Path) -> pa.Table:
    return pa.ipc.open_stream(source if isinstance(source, bytes) else source.read_bytes()).read_all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lake of the doors, and the answer of the magic to each statement."""
    place: Path = tmp_path_factory.mktemp("doors")
    lake_of_doors(Settings(home=place / ".k2"))
    for name, statements in {"asked": STATEMENTS, "wrong": WRONG}.items():
        told = [[asked.sql, asked.params, asked.as_of] for asked in statements]
        (place / f"{name}.json").write_text(json.dumps(told))
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


def post(asked: Asked, http: httpx.Client) -> httpx.Response:
    body = {"query": asked.sql, "params": asked.params, "as_of": asked.as_of, "format": "arrow"}
    return http.post("/v1/sql", json=body)


def by_http(asked: Asked, http: httpx.Client) -> pa.Table:
    answer = post(asked, http)
    assert answer.status_code == 200, answer.text
    return table(answer.content)


@pytest.fixture
def cli(folder: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`cli(*words)` is the status, the output and the messages of `k2-query`."""

    def run(*words: str) -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "argv", ["k2-query", *words])
        with pytest.raises(SystemExit) as ended:
            query_main()
        out, err = capsysbinary.readouterr()
        return int(ended.value.code or 0), out, err.decode()

    return run


def by_cli(asked: Asked, folder: Path) -> list[str]:
    words = [f"--param={name}={text}" for name, text in asked.params.items()]
    words += [f"--as-of={asked.as_of}"] if asked.as_of else []
    return ["sql", *words, "--home", str(folder / ".k2"), "-o", "arrow", "--", asked.sql]


@pytest.mark.parametrize("number", range(len(STATEMENTS)), ids=[asked.sql[:60] for asked in STATEMENTS])
def test_equal_rows_through_every_door(
    number: int, folder: Path, bench: k2.Workbench, http: httpx.Client, cli: Command
) -> None:
    asked = STATEMENTS[number]
    expected = bench.sql(asked.sql, asked.params, asked.as_of).to_arrow()
    assert table(folder / f"{number}.arrow").equals(expected)
    status, out, err = cli(*by_cli(asked, folder))
    assert (status, err) == (0, "")
    assert table(out).equals(expected)
    assert by_http(asked, http).equals(expected)


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[f"{asked.sql[:50]} {asked.as_of}" for asked in WRONG])
def test_what_is_wrong_with_a_statement_is_said_alike(
    number: int, folder: Path, bench: k2.Workbench, http: httpx.Client, cli: Command
) -> None:
    asked = WRONG[number]
    with pytest.raises(K2Error) as error:
        bench.sql(asked.sql, asked.params, asked.as_of).to_arrow()
    assert json.loads((folder / "said.json").read_text())[number] == str(error.value)
    assert cli(*by_cli(asked, folder)) == (2, b"", f"k2: {error.value}\n")
    answer = post(asked, http)
    assert answer.json()["detail"] == str(error.value)


@pytest.mark.parametrize("asked", WRONG_WORDS, ids=str)
def test_what_is_wrong_with_a_word_is_said_alike(
    asked: tuple[str, dict[str, str]], folder: Path, bench: k2.Workbench, http: httpx.Client, cli: Command
) -> None:
    verb, words = asked
    with pytest.raises(K2Error) as error:
        getattr(bench, verb)(**words).to_arrow()
    told = cli(*by_words(verb, words), "--home", str(folder / ".k2"))
    assert told == (2, b"", f"k2: {error.value}\n")
    assert http.get(f"/v1/{verb}", params=in_url(words)).json()["detail"] == str(error.value)


def by_words(verb: str, words: dict[str, str]) -> list[str]:
    """A command: of bars, symbol and interval are arguments."""
    given = {name: text for name, text in words.items() if verb != "bars" or name not in {"symbol", "interval"}}
    arguments = [text for name, text in words.items() if name not in given]
    return [verb, *arguments, *(f"--{name.replace('_', '-')}={text}" for name, text in given.items())]


def in_url(words: dict[str, str]) -> dict[str, str]:
    return {"symbols" if name == "symbol" else name: text for name, text in words.items()}


@pytest.mark.parametrize("verb", ["trades", "quotes", "bars", "symbols", "sessions", "stats", "snapshots"])
def test_columns_are_called_alike(
    verb: str, folder: Path, bench: k2.Workbench, http: httpx.Client, cli: Command
) -> None:
    """A table on the screen or in a notebook has some of the columns, and says the zone of times."""
    words = {"symbol": "BHP"} if verb in {"trades", "quotes", "bars"} else {}
    command = [*by_words(verb, words), "--home", str(folder / ".k2")]
    columns = list(http.get(f"/v1/{verb}", params=in_url(words)).json()["data"][0])
    assert list(json.loads(cli(*command, "-o", "json")[1])[0]) == columns
    screen = re.split(r" {2,}", cli(*command)[1].decode().splitlines()[0].strip())
    notebook = re.findall(r"<th(?: [^>]*)?>(.*?)</th>", getattr(bench, verb)(**words)._repr_html_())
    for headings in (screen, notebook):
        assert {heading.partition(" (")[0] for heading in headings} <= set(columns)
    zoned = [{heading for heading in headings if " (" in heading} for headings in (screen, notebook)]
    assert zoned[0] <= zoned[1]


def test_there_are_enough_statements() -> None:
    assert len({(asked.sql, asked.as_of, json.dumps(asked.params)) for asked in STATEMENTS}) == len(STATEMENTS) >= 30


def test_a_hostile_value_is_a_value(bench: k2.Workbench) -> None:
    asked = next(each for each in STATEMENTS if each.sql == "SELECT $s AS given" and each.params["s"] == HOSTILE)
    assert bench.sql(asked.sql, asked.params).to_arrow().to_pylist() == [{"given": HOSTILE}]
    assert (
        bench.sql("SELECT count(*) AS n FROM trades WHERE symbol = $s", {"s": HOSTILE}).to_arrow()["n"][0].as_py() == 0
    )
    assert bench.sql("SELECT count(*) AS n FROM trades").to_arrow()["n"][0].as_py() == 34
