"""Who may ask what, how often and for how long; and that nothing is left of a request that was given up."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import k2kernel as k2
from panel_apps.api.keys import digest_of
from tests.replays import sample_bench
from tests.servers import KEY, Server, serving, started

SLOW = "SELECT sum(a.i * b.i) AS n FROM range(1000000) AS a(i), range(1000000) AS b(i) WHERE (a.i + b.i) % 7 = 3"
"""A statement that takes many minutes."""

HEALTH_MS = 50.0
"""What the median of `/health` may take while queries run."""

READS = ("/v1/trades", "/v1/quotes", "/v1/bars", "/v1/symbols", "/v1/sessions", "/v1/stats", "/v1/snapshots")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_bench(tmp_path_factory.mktemp("http"), rows=2_000, sessions=1, symbols=3).settings.home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home, http_sql=True, http_timeout=3, http_max_body=10_000) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem that an answer tells, which has the one shape."""
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail"} <= found.keys()
    assert found["status"] == answer.status_code
    assert found["type"].startswith("urn:k2:")
    return found


def test_nothing_is_answered_without_a_key(server: Server) -> None:
    with server.client(key=None) as client:
        for path in (*READS, "/v1/nothing", "/nothing", "/dashboard/nothing"):
            refused = client.get(path)
            assert refused.status_code == 401, path
            assert problem(refused)["type"] == "urn:k2:no-key"
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        for headers in ({"X-API-Key": f"{KEY}x"}, {"X-API-Key": KEY[:-1]}, {"Authorization": f"Basic {KEY}"}):
            assert client.get("/v1/stats", headers=headers).status_code == 401
        assert client.get("/v1/stats", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        for path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        assert {client.head(path).status_code for path in ("/health", "/ready")} == {200}


def test_a_caller_makes_no_series_of_metrics(server: Server) -> None:
    """Neither by a path, nor by a method of its own."""
    with server.client(key=None) as client:
        for number in range(3):
            client.request("PURGE", "/health")
            client.get(f"/invented/{number}")
        text = client.get("/metrics").text
    assert "PURGE" not in text
    assert "invented" not in text
    assert 'k2_http_requests_total{method="any",route="/health",status="405"} 3.0' in text


def test_the_key_of_the_environment_or_of_env_is_the_one_that_counts(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"K2_API_KEYS=desk:from the file\nK2_HOME={home}\nK2_HTTP_RATE=7\n")
    with started([], tmp_path, {"TZ": "America/New_York"}) as server:
        with server.client("from the file") as client:
            answer = client.get("/v1/trades", params={"limit": 2, "fields": "ts_event,session"})
            assert answer.headers["RateLimit-Limit"] == "7"
            wanted = k2.connect(home).trades(limit=2).to_arrow().to_pylist()
            assert [row["ts_event"] for row in answer.json()["data"]] == [
                f"{row['ts_event']:%Y-%m-%dT%H:%M:%S.%f}Z" for row in wanted
            ]
        assert server.client(KEY).get("/v1/stats").status_code == 401
        told = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        assert "from the file" not in server.log.read_text()
    line = next(each for each in told if each["route"] == "/v1/trades")
    assert (line["key"], line["rows"], line["status"]) == ("desk", 2, 200)
    assert line["snapshots"] == answer.json()["meta"]["snapshot_ids"]
    assert line["correlation_id"] == answer.headers["X-Correlation-ID"]


def test_without_a_key_a_random_one_is_printed_and_a_killed_server_leaves_the_lake_whole(
    home: Path, tmp_path: Path
) -> None:
    with started(["--home", str(home)], tmp_path, {}) as server:
        made = next(line for line in server.log.read_text().splitlines() if "this one holds" in line).split()[-1]
        assert len(made) >= 43
        with server.client(made).stream("GET", "/v1/replay/stream", params={"speed": 1}) as stream:
            pieces = stream.iter_raw()
            next(pieces)
            server.process.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
    assert len(k2.connect(home).trades(raw=True).to_arrow()) == 2_000


def test_keys_of_a_file_are_hashed_and_limited(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(
        f'[desk]\nsha256 = "{digest_of("one")}"\n\n'
        f'[guest]\nsha256 = "{digest_of("two")}"\ntables = ["trades"]\nrows = 10\n'
    )
    with serving(home, api_keys=None, api_keys_file=path, http_sql=True) as server:
        desk, guest = server.client("one"), server.client("two")
        assert desk.get("/v1/quotes", params={"limit": 100}).json()["meta"]["row_count"] == 100
        assert guest.get("/v1/trades").json()["meta"] | {"snapshot_ids": None} == {
            "row_count": 10,
            "truncated": True,
            "snapshot_ids": None,
        }
        refused = [
            guest.get("/v1/trades", params={"limit": 11}),
            guest.get("/v1/trades", params={"format": "csv"}),
            guest.get("/v1/quotes"),
            guest.get("/v1/symbols"),
            guest.post("/v1/sql", json={"query": "SELECT * FROM trades, quotes"}),
            guest.post("/v1/replay", json={}),
            guest.get("/v1/replay/stream"),
        ]
        assert [answer.status_code for answer in refused] == [403] * len(refused)
        assert [problem(answer)["type"] for answer in refused[:3]] == ["urn:k2:row-limit"] * 2 + [
            "urn:k2:table-not-allowed"
        ]
        assert guest.post("/v1/replay", json={"kinds": ["trades"], "limit": 9}).status_code == 200
        stream = guest.get("/v1/replay/stream", params={"kinds": "trades"}).text
        assert stream.count("event: trades") == 10


def test_the_hundred_and_first_request_of_a_minute_is_refused(home: Path) -> None:
    with serving(home, api_keys=f"a:{KEY},b:another", http_rate=100) as server, server.client() as client:
        answers = [client.get("/v1/nothing") for _ in range(100)]
        assert {answer.status_code for answer in answers} == {404}
        assert [int(answer.headers["RateLimit-Remaining"]) for answer in answers] == list(range(99, -1, -1))
        forged = {
            "X-Forwarded-For": "10.9.8.7",
            "X-Real-IP": "10.9.8.7",
            "X-Correlation-ID": "new",
            "Forwarded": "for=9",
        }
        for headers in ({}, forged, {"Authorization": "Bearer another"}):
            refused = client.get("/v1/stats", headers=headers)
            assert (refused.status_code, problem(refused)["type"]) == (429, "urn:k2:rate-limit")
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            assert refused.headers["RateLimit-Remaining"] == "0"
        assert server.client("another").get("/v1/stats").status_code == 200
        assert client.get("/health").status_code == 200


def test_bodies_are_limited_however_they_come(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 1_000

    for content in (b" " * 10_001, chunks()):
        refused = client.post("/v1/trades/query", content=content)
        assert (refused.status_code, problem(refused)["type"]) == (413, "urn:k2:body-limit")
    assert client.post("/v1/trades/query", content=b'{"limit": 1}' + b" " * 9_000).status_code in {200, 422}


def test_a_correlation_id_comes_back_where_it_is_a_plain_one(client: httpx.Client) -> None:
    given = client.get("/v1/stats", headers={"X-Correlation-ID": "desk-7.a"})
    assert given.headers["X-Correlation-ID"] == "desk-7.a"
    for strange in ("a b", "x" * 65, '"><script>'):
        assert client.get("/health", headers={"X-Correlation-ID": strange}).headers["X-Correlation-ID"] != strange


HOSTILE = [
    "' OR 1=1 --",
    "BHP'; DROP TABLE trades; --",
    "../../etc/passwd",
    "$k2_0",
    "%",
    "BHP\x00",
    "\u202e",
    "a" * 5_000,
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_have_no_effect(client: httpx.Client, value: str) -> None:
    before = client.get("/v1/stats").json()["data"]
    words = ("symbols", "venue", "session", "start", "end", "as_of", "known_at", "cursor", "fields", "sort", "tz")
    answers = [client.get("/v1/trades", params={word: value}) for word in words]
    answers += [client.post("/v1/trades/query", json={word: value}) for word in words]
    answers += [
        client.get("/v1/snapshots", params={"table": value}),
        client.get("/v1/bars", params={"interval": value}),
        client.get("/v1/bars", params={"eligible": value, "venue": "XASX"}),
        client.get("/v1/replay/stream", params={"position": value}),
        client.post("/v1/replay", json={"cursor": value}),
    ]
    nothing = [answer for answer in answers if answer.status_code == 200]
    assert all(answer.json()["data"] == [] for answer in nothing), "only an unknown venue may answer, with nothing"
    for answer in answers:
        if answer.status_code != 200:
            assert 400 <= answer.status_code < 500, answer.text
            assert "/site-packages/" not in problem(answer)["detail"]
    assert client.get("/v1/stats").json()["data"] == before


STATEMENTS = [
    "DROP TABLE trades",
    "SELECT 1; SELECT 2",
    "COPY trades TO '/tmp/out.csv'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/*')",
    "SELECT getenv('HOME')",
    "ATTACH '/tmp/x.db'",
    "SET memory_limit = '1TB'",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM nothing",
    "SELECT nothing FROM trades",
    "",
]


@pytest.mark.parametrize("text", STATEMENTS)
def test_statements_that_may_not_run_do_not(client: httpx.Client, text: str) -> None:
    refused = client.post("/v1/sql", json={"query": text})
    assert refused.status_code in {400, 422}
    problem(refused)


def test_sql_is_off_unless_it_is_switched_on(home: Path) -> None:
    with serving(home) as server, server.client() as client:
        assert problem(client.post("/v1/sql", json={"query": "SELECT 1"}))["type"] == "urn:k2:sql-off"


def test_a_cursor_is_taken_as_it_was_given_or_not_at_all(client: httpx.Client, home: Path) -> None:
    first = client.get("/v1/trades", params={"limit": 5}).json()["next_cursor"]
    assert client.get("/v1/trades", params={"limit": 5, "cursor": first}).status_code == 200
    token, _, mac = first.partition(".")
    import base64

    body = json.loads(base64.urlsafe_b64decode(token + "=="))
    body["k"][0] += 1
    changed = base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")
    for cursor in (f"{changed}.{mac}", token, f"{token}.", first[:-1], first.swapcase(), "."):
        assert problem(client.get("/v1/trades", params={"cursor": cursor}))["type"] == "urn:k2:invalid-cursor"
    for words in ({"venue": "XASX"}, {"sort": "-ts_event"}, {"raw": True}):
        refused = client.get("/v1/trades", params={"cursor": first, **words})
        assert (refused.status_code, refused.json()["parameter"]) == (400, "cursor")
    assert client.get("/v1/quotes", params={"cursor": first}).status_code == 400
    assert client.get("/v1/symbols", params={"cursor": first}).status_code == 400
    with serving(home, http_secret="shared") as one, serving(home, http_secret="shared") as other:
        cursor = one.client().get("/v1/trades", params={"limit": 5}).json()["next_cursor"]
        assert other.client().get("/v1/trades", params={"limit": 5, "cursor": cursor}).status_code == 200
        assert client.get("/v1/trades", params={"limit": 5, "cursor": cursor}).status_code == 400


def test_a_cursor_of_a_snapshot_that_is_gone_says_so(tmp_path: Path) -> None:
    from k2kernel.lake import Lake
    from tests.query_lake import add, event

    lake = Lake.open(k2.Settings(home=tmp_path / ".k2"), create=True)
    add(lake, "a" * 64, [event() for _ in range(10)])
    with serving(tmp_path / ".k2") as server, server.client() as client:
        cursor = client.get("/v1/trades", params={"limit": 5}).json()["next_cursor"]
        replayed = client.post("/v1/replay", json={"limit": 5}).json()["next_cursor"]
        old = lake.head("trades")
        add(lake, "b" * 64, [event() for _ in range(10)], minute=1)
        assert client.get("/v1/trades", params={"limit": 5, "cursor": cursor}).json()["next_cursor"] is None
        lake.table("trades").maintenance.expire_snapshots().by_id(old or 0).commit()
        for answer in (
            client.get("/v1/trades", params={"limit": 5, "cursor": cursor}),
            client.post("/v1/replay", json={"limit": 5, "cursor": replayed}),
        ):
            assert (answer.status_code, problem(answer)["type"]) == (410, "urn:k2:expired")


def test_without_a_lake_the_server_is_not_ready_and_tells_no_path(tmp_path: Path) -> None:
    with serving(tmp_path / "none") as server, server.client() as client:
        for path in ("/ready", *READS):
            refused = client.get(path)
            assert (refused.status_code, problem(refused)["type"]) == (503, "urn:k2:no-lake")
            assert str(tmp_path) not in refused.text
        assert client.get("/health").status_code == 200


def test_a_slow_query_is_interrupted(server: Server, client: httpx.Client) -> None:
    start = time.monotonic()
    for words in ({}, {"format": "csv"}):
        refused = client.post("/v1/sql", json={"query": SLOW, **words})
        assert (refused.status_code, problem(refused)["type"]) == (504, "urn:k2:time-limit")
    assert time.monotonic() - start < 30
    server.wait_for("k2_queries_running", 0)


@pytest.mark.alone
def test_requests_answer_while_heavy_queries_run(home: Path) -> None:
    """Four heavy queries are under way; the others wait, and what is no query answers at once."""
    with (
        serving(home, http_sql=True, http_timeout=20) as server,
        ThreadPoolExecutor(8) as pool,
        server.client() as client,
    ):
        heavy = [pool.submit(_abandoned, server, 6.0, rows) for rows in (1, 2, 3, 4)]
        server.wait_for("k2_queries_running", 4)
        spent = []
        for _ in range(40):
            start = time.perf_counter()
            assert client.get("/health").status_code == 200
            spent.append((time.perf_counter() - start) * 1_000)
        assert server.metric("k2_queries_running") == 4
        for each in heavy:
            each.result()
        server.wait_for("k2_queries_running", 0)
    assert statistics.median(spent) <= HEALTH_MS


def _abandoned(server: Server, seconds: float, rows: int = 1) -> None:
    """A slow query whose client leaves after some seconds; equal ones are made once, so `rows` tells them apart."""
    with pytest.raises(httpx.ReadTimeout), server.client(timeout=seconds) as client:
        client.post("/v1/sql", json={"query": SLOW, "limit": rows})


def test_parallel_requests_do_not_mix(client: httpx.Client, home: Path) -> None:
    wanted = {name: len(k2.connect(home).trades(name, raw=True).to_arrow()) for name in ("BHP", "IBM", "BTCUSDT")}

    def ask(name: str) -> tuple[str, list[dict[str, Any]]]:
        return name, client.get("/v1/trades", params={"symbols": name, "raw": True, "limit": 2_000}).json()["data"]

    with ThreadPoolExecutor(8) as pool:
        for name, found in pool.map(ask, list(wanted) * 8):
            assert {row["symbol"] for row in found} == {name}
            assert len(found) == wanted[name]


def test_clients_that_leave_and_idle_ones_leave_nothing_behind(server: Server, client: httpx.Client) -> None:
    idle = [socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) for _ in range(200)]
    threads = [threading.Thread(target=_leave_in_mid_stream, args=(server, path)) for path in LEAVING * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("/v1/trades", params={"limit": 3}).status_code == 200
    server.wait_for("k2_queries_running", 0)
    server.wait_for("k2_http_requests_in_flight", 1)  # the one that asks
    for each in idle:
        each.close()


LEAVING = ["/v1/sql", "/v1/replay/stream?speed=1", "/v1/replay/stream?speed=0"]


def _leave_in_mid_stream(server: Server, path: str) -> None:
    words: dict[str, Any] = {"query": "SELECT i, repeat('x', 300) AS x FROM range(400000) AS t(i)", "format": "csv"}
    method = "POST" if path == "/v1/sql" else "GET"
    with server.client() as client, client.stream(method, path, json=words if method == "POST" else None) as stream:
        assert stream.status_code == 200, stream.read()
        next(stream.iter_raw())


def test_a_client_that_stops_reading_is_dropped(server: Server) -> None:
    words = {"query": "SELECT i, repeat('x', 300) AS x FROM range(400000) AS t(i)", "format": "csv"}
    with server.client() as client, client.stream("POST", "/v1/sql", json=words) as stream:
        pieces = stream.iter_raw()
        next(pieces)
        server.wait_for("k2_queries_running", 0)
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)


def test_pages_of_other_origins_may_ask_only_where_settings_say(home: Path, client: httpx.Client) -> None:
    origin = {"Origin": "https://desk.example"}
    assert "access-control-allow-origin" not in client.get("/v1/stats", headers=origin).headers
    with serving(home, http_cors="https://desk.example") as server, server.client() as allowed:
        assert allowed.get("/v1/stats", headers=origin).headers["access-control-allow-origin"] == "https://desk.example"
        asked = {**origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-API-Key"}
        assert httpx.options(f"{server.url}/v1/stats", headers=asked).status_code == 200
        other = allowed.get("/v1/stats", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        refused = httpx.get(f"{server.url}/v1/stats", headers=origin)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://desk.example")
        assert "Retry-After" in refused.headers["access-control-expose-headers"]
