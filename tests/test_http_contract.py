"""The server keeps to its own description: schemathesis sends what the OpenAPI document allows, and the like of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as how
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks

from tests.replays import sample_bench
from tests.servers import KEY, Server, serving

EXAMPLES, MANY_EXAMPLES = 5, 200

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.ignored_auth,
]
LONGEST = 60_000
"""Characters of a request line: uvicorn itself refuses longer ones."""

ENDLESS = "/v1/replay/stream"
"""A paced stream may take years; other tests read it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bench = sample_bench(tmp_path_factory.mktemp("http"), rows=1_000, sessions=1, symbols=3)
    with serving(bench.settings.home, http_sql=True, http_timeout=10) as found:
        yield found


def _check(server: Server, examples: int) -> None:
    """Ask every operation what its description allows, and the like of it that it does not."""
    schema: Any = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    for operation in (found.ok() for found in schema.get_all_operations()):
        if operation.path == ENDLESS:
            continue
        _ask(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), examples)
        with suppress(Unsatisfiable):  # what takes no words cannot be asked wrongly
            _ask(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), examples)


def _ask(cases: Any, examples: int) -> None:
    @how(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=cases)
    def ask(case: Any) -> None:
        assume(len(case.as_curl_command()) < LONGEST)
        case.call_and_validate(headers={"X-API-Key": KEY}, checks=CHECKS, timeout=30)

    ask()


def test_the_server_keeps_to_its_description(server: Server) -> None:
    _check(server, EXAMPLES)
    server.wait_for("k2_queries_running", 0)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_the_server_keeps_to_its_description_in_many_examples(server: Server) -> None:
    _check(server, MANY_EXAMPLES)


def test_every_route_has_a_description_and_says_how_it_refuses(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            if path.startswith("/v1/"):
                assert {"401", "422", "429", "504"} <= operation["responses"].keys(), (method, path)
                assert operation["security"], (method, path)
                assert "application/problem+json" in operation["responses"]["429"]["content"]
