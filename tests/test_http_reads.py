"""What the routes answer: the rows of the workbench, in every format, in pages that are one query cut in pieces."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pytest

import k2kernel as k2
from tests.replays import PROFILES, sample_bench
from tests.servers import KEY, Server, pages, serving
from tests.support import ROOT

SQL = "SELECT symbol, count(*) AS n, sum(size) AS volume FROM trades GROUP BY ALL ORDER BY symbol"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> k2.Workbench:
    return sample_bench(tmp_path_factory.mktemp("http"), rows=4_000)


@pytest.fixture(scope="module")
def server(bench: k2.Workbench) -> Iterator[Server]:
    with serving(bench.settings.home, http_sql=True, http_max_rows=5_000) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


def rows(client: httpx.Client, path: str, **words: Any) -> list[dict[str, Any]]:
    return [row for page in pages(client, path, **words) for row in page["data"]]


def identities(found: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["source"], row["source_offset"]) for row in found]


@pytest.mark.parametrize("verb", ["trades", "quotes"])
@pytest.mark.parametrize("sort", ["ts_event", "-ts_event"])
def test_pages_together_are_the_one_query(bench: k2.Workbench, client: httpx.Client, verb: str, sort: str) -> None:
    found = rows(client, f"/v1/{verb}", limit=701, sort=sort)
    wanted = getattr(bench, verb)().to_arrow().select(["source", "source_offset"]).to_pylist()
    wanted = identities(wanted)
    assert identities(found) == (wanted if sort == "ts_event" else wanted[::-1])


def test_equal_times_are_paged_each_row_once(tmp_path: Path) -> None:
    """Six hundred trades of one microsecond, in pages of seven, without the columns that order them."""
    from k2kernel.lake import Lake
    from tests.query_lake import add, event

    home = tmp_path / ".k2"
    lake = Lake.open(k2.Settings(home=home), create=True)
    for part in range(3):
        some = [event(symbol=name, trade_id=f"{part}-{name}-{n}") for n in range(100) for name in ("AAA", "BBB")]
        add(lake, f"{part}" * 64, some, minute=part)
    with serving(home) as server, server.client() as client:
        found = [row["trade_id"] for row in rows(client, "/v1/trades", limit=7, fields="trade_id")]
    wanted = k2.connect(home).trades().to_arrow()["trade_id"].to_pylist()
    assert found == wanted
    assert len(set(found)) == 600


def test_pages_do_not_move_while_rows_come_in(tmp_path: Path) -> None:
    bench = sample_bench(tmp_path, rows=2_000, sessions=1, symbols=3)
    before = bench.trades().to_arrow()["trade_id"].to_pylist()
    with serving(bench.settings.home) as server, server.client() as client:
        stream = pages(client, "/v1/trades", limit=400, fields="trade_id")
        first = next(stream)
        more = tmp_path / "more"
        for path in k2_sample(more):
            bench.ingest(path, PROFILES["trades"])
        rest = list(stream)
        now = rows(client, "/v1/trades", limit=10_000, fields="trade_id")
    found = [row["trade_id"] for page in [first, *rest] for row in page["data"]]
    assert found == before
    assert {page["meta"]["snapshot_ids"]["trades"] for page in [first, *rest]} == {
        first["meta"]["snapshot_ids"]["trades"]
    }
    assert len(now) > len(before)


def k2_sample(folder: Path) -> list[Path]:
    from k2kernel.sample import generate

    return [path for path in generate(folder, rows=1_000, sessions=1, seed=99) if path.name.startswith("trades")]


def test_has_more_is_exact(client: httpx.Client, bench: k2.Workbench) -> None:
    count = len(bench.trades("CBA").to_arrow())
    for limit in (count - 1, count, count + 1):
        page = client.get("/v1/trades", params={"symbols": "CBA", "limit": limit}).json()
        assert page["meta"] == {**page["meta"], "row_count": min(limit, count), "truncated": limit < count}
        assert (page["next_cursor"] is not None) == (limit < count) == (page["next_url"] is not None)


def test_symbols_share_a_page_by_time_and_filters_come_before_limits(client: httpx.Client, bench: k2.Workbench) -> None:
    names = ["CBA", "IBM", "BTCUSDT"]
    found = rows(client, "/v1/trades", symbols=",".join(names), limit=97, session="2024-03-05")
    wanted = bench.trades(names, session="2024-03-05").to_arrow().to_pylist()
    assert identities(found) == identities(wanted)
    assert {row["symbol"] for row in found} == set(names)
    assert client.get("/v1/trades", params={"symbols": "IBM", "limit": 1}).json()["data"][0]["symbol"] == "IBM"


def test_decimals_are_exact_texts_and_ids_are_texts(client: httpx.Client, bench: k2.Workbench) -> None:
    page = client.get("/v1/trades", params={"limit": 50}).json()
    wanted = bench.trades(limit=50).to_arrow().to_pylist()
    assert [Decimal(row["price"]) for row in page["data"]] == [row["price"] for row in wanted]
    assert all(isinstance(row["price"], str) and "e" not in row["price"] for row in page["data"])
    assert page["meta"]["snapshot_ids"] == {"trades": str(bench.trades().snapshots["trades"])}
    asked = {"query": "SELECT 1234567890.12345678::DECIMAL(18, 8) AS most, -0.00000001::DECIMAL(18, 8) AS least"}
    for form in ("json", "ndjson", "csv"):
        told = client.post("/v1/sql", json={**asked, "format": form}).text
        assert "1234567890.12345678" in told
        assert "-0.00000001" in told


@pytest.mark.parametrize("path", ["/v1/trades", "/v1/bars", "/v1/symbols", "/v1/sessions"])
def test_every_format_has_the_same_rows_and_columns(client: httpx.Client, path: str) -> None:
    words = {"venue": "XASX"} if path in {"/v1/trades", "/v1/bars"} else {}
    wanted = pl.DataFrame(rows(client, path, limit=5_000, **words))
    got = {form: client.get(path, params={"format": form, **words}) for form in ("ndjson", "csv", "parquet", "arrow")}
    assert pl.DataFrame([json.loads(line) for line in got["ndjson"].text.splitlines()]).equals(wanted)
    assert pl.read_csv(io.BytesIO(got["csv"].content), infer_schema=False).columns == wanted.columns
    parquet = pl.read_parquet(io.BytesIO(got["parquet"].content))
    arrow = pl.DataFrame(pl.from_arrow(pa.ipc.open_stream(got["arrow"].content).read_all()))
    assert parquet.equals(arrow)
    assert parquet.columns == wanted.columns
    for answer in got.values():
        assert answer.status_code == 200
        assert int(answer.headers["X-Row-Count"]) == len(wanted) == len(arrow)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/x-ndjson;q=0.5, application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_the_accept_header_chooses(client: httpx.Client, accept: str, media_type: str) -> None:
    answer = client.get("/v1/trades", params={"limit": 3}, headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type
    assert client.get("/v1/trades", headers={"Accept": "image/png"}).status_code == 406


def test_an_empty_answer_has_its_columns(client: httpx.Client) -> None:
    words = {"symbols": "CBA", "session": "2031-01-01"}
    answer = client.get("/v1/trades", params={**words, "format": "csv", "fields": "price,symbol"})
    assert (answer.status_code, answer.text) == (200, "price,symbol\n")
    arrow = pa.ipc.open_stream(client.get("/v1/trades", params={**words, "format": "arrow"}).content).read_all()
    assert arrow.schema.field("price").type == pa.decimal128(18, 8)
    assert client.get("/v1/trades", params=words).json()["data"] == []


def test_fields_keep_their_order(client: httpx.Client) -> None:
    for path in ("/v1/trades", "/v1/bars"):
        page = client.get(path, params={"fields": "venue,symbol", "limit": 2}).json()
        assert [list(row) for row in page["data"]] == [["venue", "symbol"]] * 2
        refused = client.get(path, params={"fields": "venue,nothing"})
        assert (refused.status_code, refused.json()["parameter"]) == (400, "fields")


def test_times_are_told_in_the_zone_that_is_asked_for(client: httpx.Client) -> None:
    words: dict[str, Any] = {"limit": 3, "fields": "ts_event", "symbols": "CBA"}
    utc, sydney = (
        client.get("/v1/trades", params={**words, "tz": tz}).json()["data"] for tz in ("UTC", "Australia/Sydney")
    )
    assert all(row["ts_event"].endswith("+11:00") for row in sydney)
    assert all(row["ts_event"].endswith("Z") for row in utc)
    instants = [[datetime.fromisoformat(row["ts_event"]) for row in found] for found in (utc, sydney)]
    assert instants[0] == instants[1]


def test_derived_routes_are_the_workbench(client: httpx.Client, bench: k2.Workbench) -> None:
    bars = rows(client, "/v1/bars", interval="30m", limit=7)
    wanted = bench.bars(None, "30m").to_arrow().to_pylist()
    assert [(row["symbol"], row["vwap"] and Decimal(row["vwap"]), row["n_trades"]) for row in bars] == [
        (row["symbol"], row["vwap"], row["n_trades"]) for row in wanted
    ]
    inside = bench.trades(venue="XASX", hours="rth").to_arrow().to_pylist()
    assert 0 < len(inside) < len(bench.trades(venue="XASX").to_arrow())
    assert identities(rows(client, "/v1/trades", venue="XASX", hours="rth", limit=300)) == identities(inside)
    summary = client.get("/v1/summary/CBA/2024-03-05").json()["data"][0]
    own = bench.summary("CBA", "2024-03-05")
    assert (Decimal(summary["vwap"]), summary["trade_count"]) == (own.vwap, own.trade_count)
    assert summary["snapshot_id"] == str(own.snapshot_id)
    posted = client.post("/v1/aggregations", json={"interval": "30m", "limit": 5_000}).json()["data"]
    assert posted == bars
    assert len(client.get("/v1/stats").json()["data"]) >= 2


def test_the_state_is_chosen_by_as_of_and_known_at(client: httpx.Client, bench: k2.Workbench) -> None:
    line = client.get("/v1/snapshots").json()["data"]
    oldest = line[-1]
    assert len(line) == 3
    assert "/" not in oldest["source"]
    bench.tag("trades", "first", oldest["id"], move=True)
    wanted = len(bench.trades(as_of=oldest["id"]).to_arrow())
    for as_of in (oldest["id"], "first", oldest["committed_at"].replace("Z", "+00:00")):
        assert len(rows(client, "/v1/trades", as_of=as_of, limit=333)) == wanted
    known = rows(client, "/v1/trades", known_at=line[0]["committed_at"], limit=333)
    assert identities(known) == identities(bench.trades(known_at=line[0]["committed_at"]).to_arrow().to_pylist())
    posted = client.post(f"/v1/snapshots/{oldest['id']}/query", json={"limit": 5_000}).json()
    assert posted["meta"]["row_count"] == wanted
    assert client.get("/v1/trades", params={"as_of": "2024-03-05"}).status_code == 400
    assert client.get("/v1/trades", params={"as_of": "17"}).status_code == 404
    assert client.post("/v1/snapshots/17/query", json={}).status_code == 404


def test_sql_answers_as_the_workbench_does(client: httpx.Client, bench: k2.Workbench) -> None:
    page = client.post("/v1/sql", json={"query": SQL}).json()
    found = [(row["symbol"], row["n"], Decimal(row["volume"])) for row in page["data"]]
    assert found == [(row["symbol"], row["n"], row["volume"]) for row in bench.sql(SQL).to_arrow().to_pylist()]
    bound = {"query": "SELECT count(*) AS n FROM trades WHERE symbol = $s", "params": {"s": "CBA"}}
    assert client.post("/v1/sql", json=bound).json()["data"] == [{"n": len(bench.trades("CBA").to_arrow())}]
    cut = client.post("/v1/sql", json={"query": "SELECT * FROM range(10) AS t(n)", "limit": 4}).json()
    assert (len(cut["data"]), cut["meta"]["truncated"], cut["next_cursor"]) == (4, True, None)


def test_an_answer_that_is_known_is_not_sent_again(client: httpx.Client, bench: k2.Workbench) -> None:
    either: list[dict[str, Any]] = [{"limit": 5}, {"format": "parquet"}]
    for words in either:
        first = client.get("/v1/trades", params=words)
        again = client.get("/v1/trades", params=words, headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get("/v1/trades", params={**words, "raw": True}).headers["etag"] != first.headers["etag"]
    assert (
        client.get("/v1/trades", params={"limit": 5}).content == client.get("/v1/trades", params={"limit": 5}).content
    )


def test_an_answer_has_at_most_so_many_rows(client: httpx.Client) -> None:
    with pytest.raises(AssertionError, match="row-limit"):
        rows(client, "/v1/trades", limit=5_001)
    words = {"query": "SELECT * FROM range(5001)", "format": "csv"}
    assert client.post("/v1/sql", json=words).json()["type"] == "urn:k2:row-limit"


def test_replay_pages_are_the_one_replay(client: httpx.Client, bench: k2.Workbench) -> None:
    wanted = [(event.kind, event.source, event.source_offset) for event in bench.replay(["CBA", "IBM"])]
    found, cursor = [], None
    while True:
        words = {"symbols": ["CBA", "IBM"], "limit": 700, **({"cursor": cursor} if cursor else {})}
        page = client.post("/v1/replay", json=words).json()
        found += [(row["kind"], row["source"], row["source_offset"]) for row in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == wanted


def events_of(text: str) -> list[dict[str, str]]:
    """The messages of an event stream."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.partition(": ")[::2] for line in block.split("\n")) for block in blocks]


def test_a_replay_streams_and_goes_on_from_any_event(client: httpx.Client, bench: k2.Workbench) -> None:
    words = {"symbols": "CBA"}
    whole = events_of(client.get("/v1/replay/stream", params=words).text)
    wanted = [(event.kind, event.sequence) for event in bench.replay("CBA")]
    assert [(each["event"], json.loads(each["data"])["sequence"]) for each in whole[:-1]] == wanted
    assert whole[-1]["event"] == "completed"
    for at in (0, 255, 256, 400):
        header = {"Last-Event-ID": whole[at]["id"]}
        rest = events_of(client.get("/v1/replay/stream", params=words, headers=header).text)
        assert rest[:-1] == whole[at + 1 : -1]


def test_a_paced_replay_takes_its_time(client: httpx.Client) -> None:
    words: dict[str, Any] = {"symbols": "CBA", "speed": 36_000, "limit": 40}
    with client.stream("GET", "/v1/replay/stream", params=words) as stream:
        seen = [(time.monotonic(), line) for line in stream.iter_lines() if "ts_event" in line]
    happened = [datetime.fromisoformat(json.loads(line.partition(": ")[2])["ts_event"]) for _, line in seen]
    assert len(seen) == 40
    assert seen[-1][0] - seen[0][0] >= 0.8 * (happened[-1] - happened[0]).total_seconds() / 36_000


def test_the_examples_of_the_readme_run(server: Server) -> None:
    text = (ROOT / "README.md").read_text()
    block = next(found for found in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "urlopen" in found)
    found: dict[str, Any] = {}
    exec(block.replace("http://localhost:8000", server.url).replace('os.environ["KEY"]', repr(KEY)), found)
    assert found["trades"].schema["price"] == pl.Decimal(18, 8)
    assert len(found["bars"]) > 0
    for line in re.findall(r'^curl .*"localhost:8000(/\S*)"', text, flags=re.MULTILINE):
        with server.client().stream("GET", line) as answer:
            assert answer.status_code == 200, line


def test_a_word_or_a_route_that_is_none_says_what_is_meant(client: httpx.Client) -> None:
    asked = client.get("/v1/bars", params={"symbol": "BHP", "interval": "1m"})
    posted = client.post("/v1/aggregations", json={"symbol": ["BHP"], "intervall": "1m"})
    assert (asked.status_code, posted.status_code) == (422, 422)
    meant = "is no word of this route. Did you mean {}? /docs lists them"
    assert {"parameter": "symbol", "problem": meant.format("symbols")} in asked.json()["errors"]
    assert {"parameter": "intervall", "problem": meant.format("interval")} in posted.json()["errors"]
    lost = client.get("/v1/summary")
    assert (lost.status_code, lost.json()["detail"]) == (404, "There is no such route; /docs lists them.")


def test_every_route_refuses_a_word_that_it_has_not(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()["paths"]
    asked = [(method, path) for path, methods in described.items() if path.startswith("/v1/") for method in methods]
    assert len(asked) > 14
    for method, path in asked:
        place = path.format(symbol="BHP", date="2024-03-05", snapshot_id="1")
        given = {"params": {"colour": "red"}} if method == "get" else {"json": {"colour": "red"}}
        answer = client.request(method, place, **given)  # type: ignore[arg-type]
        told = {each["parameter"]: each["problem"] for each in answer.json()["errors"]}
        assert (answer.status_code, told["colour"]) == (422, "is no word of this route. /docs lists them"), path


@pytest.mark.parametrize("body", [b"", b"[1]", b"{bad", b"5"])
def test_a_body_that_is_no_object_is_named(client: httpx.Client, body: bytes) -> None:
    refused = client.post("/v1/trades/query", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["parameter"] == "body"
    assert "JSON" in refused.json()["detail"]


def test_a_method_that_a_route_has_not_says_which_it_has(client: httpx.Client) -> None:
    refused = client.post("/v1/trades", json={})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
    assert refused.json()["detail"] == "This route takes GET; /docs lists what there is."


def test_a_symbol_with_a_slash_has_a_summary(tmp_path: Path) -> None:
    file = tmp_path / "pair.csv"
    file.write_text("symbol,venue,ts_event,price,size\nBTC/USD,BINANCE,2024-03-05T10:00:00Z,7,1\n")
    k2.connect(tmp_path / "lake").ingest(file, "k2-trades")
    with serving(tmp_path / "lake") as server, server.client() as client:
        for written in ("BTC/USD", "BTC%2FUSD"):
            found = client.get(f"/v1/summary/{written}/2024-03-05")
            assert (found.status_code, found.json()["data"][0]["symbol"]) == (200, "BTC/USD")
        assert 'route="/v1/summary/{symbol}/{date}"' in client.get("/metrics").text
