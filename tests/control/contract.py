"""Holds what went over the wire against openapi.json, which is the contract."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import attrs
from jsonschema_rs import Draft202012Validator

FILE = Path(__file__).parents[2] / "plane_tx" / "control" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(FILE.read_bytes())

#: What a request that fits the document may be refused for: the configuration, the engine, or how
#: fields go together. Each begins a 422's message.
BEYOND_THE_SCHEMA = re.compile(
    # JSON Schema takes 1.0 for a whole number.
    r"\S+: expected a (whole number|port)( \S+)*, got [0-9.]+(e\+?[0-9]+)?$"
    r"|auth: (expected at most 8192 bytes|too deeply nested)"
    r"|(user|key\.\w+|reason): expected at most \d+ printable"  # more than control characters
    r"|user: expected no space"  # what Python calls space is more than what ECMA-262 does
    r"|user, auth: a static token"
    r"|spawn_config\.routing: .host. does not go with"
    r"|this Idempotency-Key was sent with another body"
    r"|reason: this session has 64 leases"
    r"|spawn_config\.token_ttl_seconds: a static token"
    r"|spawn_config\.cluster: this server is"
    r"|spawn_config\.idle\.ignore\[\d+\]: can match nothing"  # counted in bytes of UTF-8
    r"|spawn_config\.idle\.ignore\[\d+\]: is (close to the|no) preset"
    r"|spawn_config\.executable\.app: no app"
    r"|spawn_config\.executable\.[\w.]+: "
    r"(the app |the process engine |this server |only an engine of containers )"
    # Names of capabilities(7), and paths of other than control characters that cannot be printed.
    r"|spawn_config\.executable\.(cap_add|tmpfs|mount|volumes\[\d+\]\.path): expected "
)

#: What may be answered before anyone looks which route was meant, or whether there is one.
BEFORE_THE_ROUTE = (400, 401, 403, 413, 415, 502)


@attrs.frozen
class Asked:
    """A request as it was sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)


@functools.cache
def closed() -> dict[str, Any]:
    """The document as a test reads it: a field of an answer that is not in it is a mistake."""
    document = json.loads(FILE.read_bytes())
    for schema in within(document["components"]["schemas"]):
        if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
    return document


def within(part: Any) -> Iterator[dict[str, Any]]:
    """Every object in a part of the document, itself included."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    for child in part if isinstance(part, list) else ():
        yield from within(child)


@functools.cache
def _compiled(schema: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"allOf": [json.loads(schema)], "components": closed()["components"]}
    )


def misfits(schema: Any, value: Any) -> list[str]:
    """What of `value` is not as `schema` says; empty when all is."""
    errors = _compiled(json.dumps(schema)).iter_errors(value)
    return [f"{list(error.instance_path)}: {error.message}" for error in errors]


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` of the document leads to; anything else is itself."""
    while "$ref" in part:
        _, *names = part["$ref"].split("/")
        part = functools.reduce(lambda found, name: found[name], names, closed())
    return part


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    # Literal paths before templates, as OpenAPI has it.
    paths = sorted(closed()["paths"].items(), key=lambda item: item[0].count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), item) for path, item in paths]


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """The operation that the document has for this, with the parameters of its path."""
    # As the server reads it: decoded, and any number of slashes at the front is one.
    path = "/" + unquote(path).lstrip("/")
    for pattern, item in _paths():
        if pattern.fullmatch(path):
            found = item.get("get" if method == "HEAD" else method.lower())
            return found and {
                **found,
                "parameters": item.get("parameters", []) + found.get("parameters", []),
            }
    return None


def check(asked: Asked, status: int, headers: dict[str, str], body: bytes) -> None:
    """Fail unless the document says that this request may be answered like this."""
    where = f"{asked.method} {asked.target} -> {status}"
    operation = operation_of(asked.method, asked.path)
    if asked.method == "OPTIONS" and asked.path.startswith("/pub/"):
        assert (status, body) == (200, b""), where
        return
    if operation is None:
        assert status in (404, 405, *BEFORE_THE_ROUTE), f"{where}: no such operation"
        assert status != 405 or "allow" in headers, where
        return
    responses = operation["responses"]
    assert str(status) in responses, f"{where}: no such status in the document"
    response = resolved(responses[str(status)])
    _check_headers(where, response, headers)
    if asked.method == "HEAD":
        assert body == b"", where
    else:
        _check_body(where, response, headers.get("content-type"), body)
    if 200 <= status < 300 or status == 422:
        _check_request(where, operation, asked, status, body)


def _check_headers(where: str, response: dict[str, Any], headers: dict[str, str]) -> None:
    for name, said in response.get("headers", {}).items():
        header = resolved(said)
        assert name in headers or not header.get("required"), f"{where}: no {name}"
        if name in headers:
            wrong = _misfits_of_text(header["schema"], headers[name])
            assert not wrong, f"{where}: {name}: {wrong}"


def _check_body(where: str, response: dict[str, Any], said: str | None, body: bytes) -> None:
    content = response.get("content", {})
    if said is None:
        assert body == b"", f"{where}: a body without a type"
        assert not content, f"{where}: no content type"
        return
    media = said.partition(";")[0]
    assert media in content, f"{where}: {said} is not in the document"
    schema = content[media]["schema"]
    for value in _values(media, body):
        wrong = misfits(schema, value)
        assert not wrong, f"{where}: {wrong}"
        if media == "text/event-stream":
            told = schema["properties"]["data"]["contentSchema"]
            wrong = misfits(told, json.loads(value["data"]))
            assert not wrong, f"{where}: {wrong}"


def _values(media: str, body: bytes) -> list[Any]:
    if media == "application/json":
        return [json.loads(body)]
    if media in ("application/gzip", "image/png"):
        return []
    if media != "text/event-stream":
        return [body.decode()]
    blocks = body.decode().split("\n\n")[:-1]
    events = [[line.split(": ", 1) for line in block.split("\n")] for block in blocks]
    return [dict(lines) for lines in events if lines != [[":"]]]


def _check_request(
    where: str, operation: dict[str, Any], asked: Asked, status: int, body: bytes
) -> None:
    wrong = [*_misfits_of_parameters(operation, asked), *_misfits_of_body(operation, asked)]
    if status != 422:
        assert not wrong, f"{where}: accepted, and the document says otherwise: {wrong}"
    elif not wrong:
        message = json.loads(body)["message"]
        assert BEYOND_THE_SCHEMA.match(message), f"{where}: the document allows this: {message}"


def _misfits_of_parameters(operation: dict[str, Any], asked: Asked) -> Iterator[str]:
    known = [resolved(parameter) for parameter in operation["parameters"]]
    for name, value in asked.query:
        parameter = next((it for it in known if (it["name"], it["in"]) == (name, "query")), None)
        if parameter is None and any(it["in"] == "query" for it in known):
            yield f"{name}: unknown parameter"
        if parameter is None or not value:
            continue
        if [found for found, text in asked.query if found == name and text] != [name]:
            yield from () if "items" in parameter["schema"] else (f"{name}: given twice",)
        if "items" not in parameter["schema"]:
            yield from _misfits_of_text(parameter["schema"], value)
    yield from _misfits_of_lists(known, asked)
    sent = {name.lower(): value for name, value in asked.headers.items()}
    for parameter in known:
        if parameter["in"] == "header" and parameter["name"].lower() in sent:
            yield from _misfits_of_text(parameter["schema"], sent[parameter["name"].lower()])


def _misfits_of_lists(known: list[dict[str, Any]], asked: Asked) -> Iterator[str]:
    for parameter in known:
        if parameter["in"] != "query":
            continue
        given = [value for name, value in asked.query if name == parameter["name"] and value]
        if "items" in parameter["schema"] and given:
            yield from misfits(parameter["schema"], given)
        if parameter.get("required") and not given:
            yield f"{parameter['name']}: missing"


def _misfits_of_text(schema: dict[str, Any], text: str) -> list[str]:
    if resolved(schema).get("type") in ("integer", "number", "boolean"):
        try:
            return misfits(schema, json.loads(text))
        except ValueError:
            return [f"{text!r} is no {schema['type']}"]
    return misfits(schema, text)


def _misfits_of_body(operation: dict[str, Any], asked: Asked) -> list[str]:
    wanted = operation.get("requestBody")
    if wanted is None or not (asked.body or wanted["required"]):
        return []
    schema = wanted["content"]["application/json"]["schema"]
    # What is never looked at need not be JSON.
    return [] if schema is True else misfits(schema, json.loads(asked.body))
