"""The schema registry, by its Confluent API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from k2kernel.errors import StreamFault, extra
from k2kernel.wire.topics import subject

if TYPE_CHECKING:
    import httpx

COMPATIBILITY = "BACKWARD_TRANSITIVE"
_TIMEOUT_S = 5.0
_ATTEMPTS, _WAIT_S = 3, 0.2
_AT = re.compile(r"([^,\[\]]+?) at /fields/(\d+)")
"""How the registry says which field of a schema is wrong, and why."""


class RegistryDown(StreamFault):
    """The registry does not answer: nothing is known about the schema that was asked for."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"schema registry {url}", problem, "Check K2_SCHEMA_REGISTRY_URL and that it runs")


class UnknownSchema(StreamFault):
    """The registry answers that it has no Avro schema of this id."""


class Registry:
    """A registry at `url`. Schemas are fetched once, as an id never changes its meaning."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client = _client()
        self._schemas: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def schema(self, schema_id: int) -> dict[str, Any]:
        """The Avro schema of an id; UnknownSchema where there is none, RegistryDown where there is no answer."""
        if schema_id not in self._schemas:
            reply = self._ask("GET", f"/schemas/ids/{schema_id}")
            if reply.status_code == 404:
                raise UnknownSchema(f"schema id {schema_id}", "the registry has no such schema")
            self._schemas[schema_id] = _avro(schema_id, self._checked(reply))
        return self._schemas[schema_id]

    def register(self, topic: str, schema: Mapping[str, Any]) -> int:
        """The id of a schema of a topic's values, registered where it is new.

        StreamFault where it is not compatible with every earlier one, so that old messages could not be read by it.
        """
        known = self.lookup(topic, schema)
        if known is not None:
            return known
        name = subject(topic)
        self._checked(self._ask("PUT", f"/config/{name}", {"compatibility": COMPATIBILITY}))
        self._check_compatible(name, schema)
        reply = self._ask("POST", f"/subjects/{name}/versions", {"schema": json.dumps(schema)})
        if reply.status_code == 409:  # another producer was quicker, with another schema
            raise _incompatible(name, reply.json().get("message", ""), schema)
        return int(self._checked(reply)["id"])

    def lookup(self, topic: str, schema: Mapping[str, Any]) -> int | None:
        """The id that a schema has under a topic already, or None."""
        reply = self._ask("POST", f"/subjects/{subject(topic)}", {"schema": json.dumps(schema)})
        return None if reply.status_code == 404 else int(self._checked(reply)["id"])

    def _check_compatible(self, name: str, schema: Mapping[str, Any]) -> None:
        versions = self._ask("GET", f"/subjects/{name}/versions")
        if versions.status_code == 404:
            return
        question = {"schema": json.dumps(schema)}
        answer = self._checked(self._ask("POST", f"/compatibility/subjects/{name}/versions?verbose=true", question))
        if not answer["is_compatible"]:
            raise _incompatible(name, str(answer.get("messages") or answer.get("reason", "")), schema)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """An answer that is not the registry's own fault; RegistryDown after a few attempts."""
        import httpx

        problem = ""
        for number in range(_ATTEMPTS):
            try:
                reply = self._client.request(method, self.url + path, json=body)
            except httpx.HTTPError as exc:
                problem = str(exc) or type(exc).__name__
            else:
                if reply.status_code < 500:
                    return reply
                problem = f"it answers {reply.status_code}"
            if number < _ATTEMPTS - 1:
                time.sleep(_WAIT_S * 2**number)
        raise RegistryDown(self.url, problem)

    def _checked(self, reply: httpx.Response) -> dict[str, Any]:
        if reply.status_code >= 400:
            raise StreamFault(f"schema registry {self.url}", f"it refuses: {reply.text[:300]}", "See its log")
        found: dict[str, Any] = reply.json()
        return found


def _avro(schema_id: int, found: Mapping[str, Any]) -> dict[str, Any]:
    kind = found.get("schemaType", "AVRO")
    if kind != "AVRO":
        raise UnknownSchema(f"schema id {schema_id}", f"it is of {kind}, and messages are read as AVRO")
    schema = spelled_out(json.loads(found["schema"]))
    return schema if isinstance(schema, dict) else {"type": schema}


def spelled_out(schema: Any) -> Any:
    """A schema as Polars reads it: with each named type written out where it is used again, under another name, and
    without defaults, which are for readers of another schema.
    """
    named: dict[str, dict[str, Any]] = {}
    numbers = count()

    def out(kind: Any, space: str) -> Any:
        if isinstance(kind, str):
            found = named.get(f"{space}.{kind}") or named.get(f".{kind}")
            return kind if found is None else {**found, "name": f"k2_{next(numbers)}"}
        if isinstance(kind, list):
            return [out(each, space) for each in kind]
        name = kind.get("name", "")
        space = (
            f".{name}".rpartition(".")[0] if "." in name else f".{kind['namespace']}" if "namespace" in kind else space
        )
        told = {part: out(kind[part], space) for part in ("items", "values") if part in kind}
        told |= {"type": kind["type"] if "name" in kind else out(kind["type"], space)}
        if "fields" in kind:
            told["fields"] = [_without_default(each) | {"type": out(each["type"], space)} for each in kind["fields"]]
        if name:
            named[f"{space}.{name.rpartition('.')[2]}"] = {**kind, **told}
        return {**kind, **told}

    return out(schema, "")


def _without_default(field: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in field.items() if name != "default" or value is None}


def _incompatible(name: str, problem: str, schema: Mapping[str, Any]) -> StreamFault:
    fields = [field["name"] for field in schema["fields"]]
    wrong = {
        fields[int(at)]: why.strip()
        for why, at in _AT.findall(problem.partition(" Causes: ")[0])
        if int(at) < len(fields)
    }
    told = [f"{field} ({'new, without a default' if why.endswith(field) else why})" for field, why in wrong.items()]
    text = f"the schema is not {COMPATIBILITY} compatible with the registered ones: {', '.join(told) or problem[:500]}"
    return StreamFault(
        f"subject {name}", text, "Add fields only with a default, and change no type; or use a new topic"
    )


def _client() -> httpx.Client:
    with extra("kafka", "httpx"):
        import httpx
    return httpx.Client(timeout=_TIMEOUT_S, headers={"Content-Type": "application/vnd.schemaregistry.v1+json"})
