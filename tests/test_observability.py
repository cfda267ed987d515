"""Dashboards and alerts on a real Prometheus that reads the real server, a real sink and a long command."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import k2kernel as k2
from k2kernel.config import Settings
from k2kernel.errors import K2Error
from k2kernel.metrics import Counter, Histogram, Metrics
from k2kernel.services.servers import cache
from tests.feeds import Feed, wait_for
from tests.servers import KEY, free_port, started
from tests.support import ROOT, missing_service

FOLDER = ROOT / "observability"
RULES = FOLDER / "prometheus"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
QUOTES = "ts_event,symbol,venue,sequence,bid_px,ask_px,bid_sz,ask_sz,conditions"
_NAME = re.compile(r"(?<![\w:])(?:k2|process)_[a-z_0-9]+")
_THRESHOLD = re.compile(r"\s[<>=!]=?\s[\d.e+]+$")


def need_prometheus() -> None:
    """Skip, or fail in CI, where Prometheus is not installed."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        missing_service("Prometheus", "apt-get install prometheus")


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[tuple[str, str, str]]:
    """(dashboard, title, query) of every query of every panel."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            found += [(path.stem, panel["title"], target["expr"]) for target in panel.get("targets", ())]
    return found


def sides(alert: str) -> list[str]:
    """What an alert compares: its expression without `and` and thresholds, which has a value at all times."""
    return [_THRESHOLD.sub("", part.strip()) for part in alert.split(" and ")]


def exposed() -> set[str]:
    """The names of every series that a process shows."""
    names = set()
    for each in Metrics():
        if isinstance(each, Histogram):
            names |= {f"{each.name}_{part}" for part in ("bucket", "count", "sum")}
        else:
            names.add(f"{each.name}_total" if isinstance(each, Counter) else each.name)
    return names


def test_every_query_is_of_a_metric_that_there_is() -> None:
    recorded = {rule["record"] for rule in rules("recording.yml")}
    queries = [query for _, _, query in panels()]
    queries += [rule["expr"] for file in ("recording.yml", "alerts.yml") for rule in rules(file)]
    for query in queries:
        assert set(_NAME.findall(query)) <= exposed(), query
        assert set(re.findall(r"\b[a-z0-9_]+:[a-z0-9_:]+", query)) <= recorded, query


def test_the_dashboards_have_their_rows_variables_thresholds_and_links() -> None:
    boards = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}
    rows = [panel["title"] for panel in boards["k2"]["panels"] if panel["type"] == "row"]
    assert rows == ["API health", "Data pipeline", "Storage", "Query engine", "System health"]
    assert len(boards["k2"]["panels"]) - len(rows) >= 15
    for board in boards.values():
        variables = {each["name"]: each["type"] for each in board["templating"]["list"]}
        assert variables == {"datasource": "datasource", "interval": "interval"}
        assert board["links"]
        shown = [panel["fieldConfig"]["defaults"] for panel in board["panels"] if panel["type"] != "row"]
        assert sum(len(each["thresholds"]["steps"]) > 1 for each in shown) >= 4
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        for panel in board["panels"]:
            assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
            assert panel["type"] == "row" or (panel["description"] and panel["fieldConfig"]["defaults"]["unit"])
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for one, other in combinations((panel["gridPos"] for panel in board["panels"]), 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (
                "one over the other"
            )
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/k2.yml").read_text())
    assert provider["providers"][0]["options"]["path"] == "/etc/grafana/dashboards"


def test_the_dashboards_are_of_grafanas_schema(tmp_path: Path) -> None:
    tool = cache() / "bin" / "dashboards"
    if not tool.exists():
        missing_service("Grafana's schema of dashboards", "install Go and run `make .services`")

    def checked(*paths: Path) -> tuple[int, str]:
        done = subprocess.run([tool, *paths], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert checked(*DASHBOARDS) == (0, "")
    wrong = tmp_path / "wrong.json"
    wrong.write_text(DASHBOARDS[0].read_text().replace('"fieldConfig"', '"fieldConfg"'))
    status, told = checked(wrong)
    assert status == 1
    assert "unexpected field 'fieldConfg'" in told


def test_every_alert_says_what_to_do_and_fires() -> None:
    need_prometheus()
    for rule in rules("alerts.yml"):
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["what_to_do"]
    tested = {each["name"] for each in yaml.safe_load((RULES / "tests.yml").read_text())["tests"]}
    assert tested == {rule["alert"] for rule in rules("alerts.yml")} | {"nothing is wrong"}
    for words in (["check", "config", "prometheus.yml"], ["test", "rules", "tests.yml"]):
        done = subprocess.run(["promtool", *words], cwd=RULES, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A Prometheus with this project's configuration, which looks every second instead of every 15, at `targets`."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        shutil.copytree(RULES, folder)
        config = folder / "prometheus.yml"
        config.write_text(config.read_text().replace("15s", "1s"))
        shown = [{"targets": [f"127.0.0.1:{port}"], "labels": {"role": role}} for role, port in targets.items()]
        (folder / "targets.yml").write_text(yaml.safe_dump(shown))
        port = free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10)
        words = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder}/data"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", "--config.file=prometheus.yml", *words], cwd=folder, stderr=log
            )

    def stop(self) -> None:
        self._client.close()
        self.process.terminate()
        self.process.wait()

    def query(self, text: str) -> list[dict[str, Any]]:
        reply = self._client.get("/query", params={"query": text})
        if reply.status_code == 503:  # it is not ready
            return []
        answer = reply.json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def up(self) -> int:
        try:
            return len(self.query('up{job="k2"} == 1'))
        except httpx.TransportError:
            return 0


@pytest.fixture
def sink(feed: Feed) -> Iterator[int]:
    """The port of a sink's metrics."""
    port = free_port()
    code = "from k2kernel.cli import main; main()"
    words = [sys.executable, "-c", code, "stream", "sink", feed.topic, "--seconds", "0.2"]
    environment = {"K2_METRICS_PORT": str(port), "K2_HOME": str(feed.home), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, env=environment | feed.services.environment)
    yield port
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def ask(url: str) -> None:
    """Requests of every kind, of which one fails."""
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=60) as client:
        for _ in range(2):
            answer = client.get("/v1/trades", params={"symbols": "S1", "limit": 5})
            client.get(
                "/v1/trades", params={"symbols": "S1", "limit": 5}, headers={"If-None-Match": answer.headers["ETag"]}
            )
            client.get("/v1/trades", params={"symbols": "S1", "session": "2024-07-02"})
            assert client.post("/v1/sql", json={"sql": "SELECT nothing"}).is_client_error
            time.sleep(1.5)


def work(bench: k2.Workbench) -> None:
    """What a schedule does: a load, a replay, a query that fails, and maintenance."""
    header = "ts_event,symbol,venue,sequence,price,size,side,conditions\n"
    quotes = bench.settings.home.with_name("quotes.csv")
    quotes.write_text(f"{QUOTES}\n2024-07-03T03:00:00Z,BHP,XASX,1,44,45,100,100,\n")
    bench.ingest(quotes, "k2-quotes")
    for number in range(2):
        row = f"2024-07-0{number + 3}T03:00:00Z,BHP,XASX,1,44.1,{number},buy,\n"
        bench.settings.home.with_name(f"{number}.csv").write_text(header + row)
        bench.ingest(bench.settings.home.with_name(f"{number}.csv"), "k2-trades")
        assert sum(1 for _ in bench.replay("BHP", kinds=("trades",), session=f"2024-07-0{number + 3}")) == 1
        with pytest.raises(K2Error):
            bench.sql("SELECT 1 // 0 + price::INTEGER + 'x'::INTEGER FROM trades").to_arrow()
        bench.maintain("trades")
        bench.rewrite_manifests("trades")
        time.sleep(1.5)


def test_every_panel_and_every_alert_has_data_after_a_day_of_work(feed: Feed, sink: int, tmp_path: Path) -> None:
    need_prometheus()
    feed.publish(300, bad=2)
    environment = {"K2_API_KEYS": KEY, "K2_HTTP_SQL": "true"}
    port = free_port()
    settings = Settings(home=feed.home, metrics_port=port)
    schedule = k2.connect(settings=settings)
    with schedule.metrics(), started(["--home", str(feed.home)], tmp_path, environment) as server:
        targets = {"server": int(server.url.rpartition(":")[2]), "sink": sink, "schedule": port}
        prometheus = Prometheus(tmp_path / "prometheus", targets)
        try:
            wait_for(lambda: prometheus.up() == 3)
            feed.publish(300, bad=2)
            ask(server.url)
            work(schedule)
            until = time.monotonic() + 40
            while without := lacking(prometheus):
                assert time.monotonic() < until, without
                time.sleep(1)
            # A process that cannot be reached is an alert that is on its way.
            server.process.kill()
            wait_for(lambda: bool(prometheus.query('ALERTS{alertname="K2Down",alertstate="pending"}')))
        finally:
            prometheus.stop()


def lacking(prometheus: Prometheus) -> list[str]:
    """The queries of panels, alerts and recordings without an answer."""
    queries = [query.replace("$interval", "5m") for _, _, query in panels()]
    queries += [side for rule in rules("alerts.yml") for side in sides(rule["expr"])]
    queries += [rule["record"] for rule in rules("recording.yml")]
    return [query for query in queries if not prometheus.query(query)]
