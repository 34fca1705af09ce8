"""The API's reference, made of openapi.json: a section a route, and a section a type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CONTRACT = Path(__file__).parents[2] / "plane_tx/control/openapi.json"

#: A status and the name of the response that several operations have.
Shared = tuple[str, str]

_METHODS = ("get", "post", "delete")


def routes() -> str:
    """Every operation, in the order of the contract, below the headings of its tags."""
    contract = json.loads(CONTRACT.read_text())
    lines: list[str] = []
    for tag in contract["tags"]:
        lines += [f"## {tag['name'].capitalize()}", "", tag["description"], ""]
        for method, path, operation in operations(contract):
            if operation["tags"][0] == tag["name"]:
                lines += _operation(contract, method, path, operation)
    return "\n".join(lines)


def operations(contract: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each as (method, path, what is said of it), with the path's own parameters among its."""
    for path, item in contract["paths"].items():
        for method in _METHODS:
            if method in item:
                parameters = item.get("parameters", []) + item[method].get("parameters", [])
                yield method.upper(), path, {**item[method], "parameters": parameters}


def errors() -> str:
    """The errors that need not be told of each route."""
    contract = json.loads(CONTRACT.read_text())
    everywhere, with_key = common(contract)
    told = [(name, "all") for name in everywhere]
    told += [(name, "those that need a key") for name in with_key]
    rows = [
        f"{_failure(contract, status, ref)} {routes} |" for (status, ref), routes in sorted(told)
    ]
    return "\n".join(["| error | kind | when | routes |", "| --- | --- | --- | --- |", *rows])


def common(contract: Mapping[str, Any]) -> tuple[list[Shared], list[Shared]]:
    """The errors that all routes have, and what besides all have that need a key."""
    each = [(operation["security"], _shared(operation)) for *_, operation in operations(contract)]
    everywhere = set.intersection(*(shared for _, shared in each))
    with_key = set.intersection(*(shared for security, shared in each if security))
    return sorted(everywhere), sorted(with_key - everywhere)


def _shared(operation: Mapping[str, Any]) -> set[Shared]:
    responses = operation["responses"].items()
    return {(status, its["$ref"]) for status, its in responses if "$ref" in its and status >= "400"}


def types() -> str:
    """Every type that has fields or values to choose from, by its name."""
    contract = json.loads(CONTRACT.read_text())
    lines: list[str] = []
    for name, schema in sorted(contract["components"]["schemas"].items()):
        lines += [f"### {name}", "", _sentences(schema)]
        if "enum" in schema:
            lines += ["", "One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + "."]
        if "properties" in schema:
            lines += ["", *_fields(schema)]
        lines.append("")
    return "\n".join(lines)


def _operation(
    contract: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]
) -> list[str]:
    lines = [f"### {method} {path}", "", f"**{operation['summary']}.**"]
    lines += [_sentences(operation), "", f"Who may: {_who(operation['security'])}.", ""]
    lines += _parameters(contract, operation["parameters"])
    body = operation.get("requestBody")
    if body is not None:
        lines += _body(body)
    return lines + _answers(contract, operation) + _failures(contract, operation)


def _who(security: list[dict[str, list[str]]]) -> str:
    if not security:
        return "everyone"
    ways = {
        "apiKey": "a key with the scope `{}`",
        "sessionSecret": "the session itself, by its `SESSION_BACKEND_SECRET`",
    }
    told = [
        ways[how].format(", ".join(scopes)) for each in security for how, scopes in each.items()
    ]
    return "; or ".join([*told, "anyone on this box where there are no keys"])


def _parameters(contract: Mapping[str, Any], parameters: list[dict[str, Any]]) -> list[str]:
    known = [resolved(contract, parameter) for parameter in parameters]
    rows = [
        f"| `{each['name']}` ({each['in']}) | {_kind(each['schema'])} | {_default(each['schema'])} "
        f"| {_cell(each.get('description', ''))} |"
        for each in known
    ]
    return _table("parameter", rows)


def _fields(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required", [])
    rows = [
        f"| `{name}` | {_kind(field)} | {'required' if _asked(name, required, schema) else ''}"
        f"{_default(field)} | {_cell(field.get('description', ''))} |"
        for name, field in schema["properties"].items()
    ]
    return _table("field", rows)


def _asked(name: str, required: list[str], schema: Mapping[str, Any]) -> bool:
    """Whether a client must give it: an answer has all that it requires, so it need not say so."""
    return name in required and schema.get("additionalProperties") is False


def _table(first: str, rows: list[str]) -> list[str]:
    if not rows:
        return []
    return [f"| {first} | type | default | |", "| --- | --- | --- | --- |", *rows, ""]


def _body(body: Mapping[str, Any]) -> list[str]:
    its = body["content"]["application/json"]
    lines = [f"Body: {_kind(its['schema'])}.", ""]
    for value in _examples(its)[:1]:
        lines += _json(value)
    return lines


def _answers(contract: Mapping[str, Any], operation: Mapping[str, Any]) -> list[str]:
    return [
        line
        for status, response in operation["responses"].items()
        if status < "400"
        for line in _answer(status, resolved(contract, response))
    ]


def _failures(contract: Mapping[str, Any], operation: Mapping[str, Any]) -> list[str]:
    everywhere, with_key = common(contract)
    known = [*everywhere, *(with_key if operation["security"] else [])]
    its = [
        (status, response)
        for status, response in operation["responses"].items()
        if status >= "400" and (status, response.get("$ref")) not in known
    ]
    if not its:
        return []
    rows = [
        _failure(contract, status, response.get("$ref") or response) for status, response in its
    ]
    return ["| error | kind | when |", "| --- | --- | --- |", *rows, ""]


def _failure(contract: Mapping[str, Any], status: str, response: str | Mapping[str, Any]) -> str:
    its = resolved(contract, {"$ref": response} if isinstance(response, str) else response)
    return f"| {status} | {_cell(', '.join(_kinds(its)))} | {_cell(its['description'])} |"


def _answer(status: str, response: Mapping[str, Any]) -> list[str]:
    lines = [f"`{status}`: {_cell(response['description'])}", ""]
    for kind, its in list(response.get("content", {}).items())[:1]:
        if kind == "application/json":
            lines[0] = f"`{status}`, {_kind(its['schema'])}: {_cell(response['description'])}"
        for value in _examples(its)[:1]:
            shown = isinstance(value, str) and kind.startswith("text/")
            lines += ["```text", value.rstrip(), "```", ""] if shown else _json(value)
    return lines


def _kinds(response: Mapping[str, Any]) -> list[str]:
    """The `kind`s that an error may have, as its schema or its examples name them."""
    found = re.findall(r'"kind": (?:\{"enum": \[([^\]]+)\]|("[A-Z]\w+"))', json.dumps(response))
    words = [word.strip(' "') for each in found for word in ",".join(each).split(",")]
    return [f"`{word}`" for word in dict.fromkeys(filter(None, words))]


def _examples(its: Mapping[str, Any]) -> list[Any]:
    several = [each["value"] for each in its.get("examples", {}).values()]
    return several or ([its["example"]] if "example" in its else [])


def _json(value: object) -> list[str]:
    return ["```json", *json.dumps(value, indent=2).splitlines(), "```", ""]


def resolved(contract: Mapping[str, Any], what: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a `$ref` stands for, or the thing itself."""
    while "$ref" in what:
        found: Any = contract
        for word in what["$ref"].removeprefix("#/").split("/"):
            found = found[word]
        what = found
    return what


def _kind(schema: Any) -> str:
    """A type in a word or two: names of types are links."""
    if not isinstance(schema, dict):
        return "anything"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema and "type" not in schema:
            kinds = [_kind(each) for each in schema[several] if each.keys() & {"$ref", "type"}]
            return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "items" in schema:
        return f"list of {_kind(schema['items'])}" + _or_null(schema)
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_kind(schema['additionalProperties'])}" + _or_null(schema)
    said = schema.get("type", "anything")
    return " or ".join(said) if isinstance(said, list) else said


def _or_null(schema: Mapping[str, Any]) -> str:
    return " or null" if isinstance(schema.get("type"), list) else ""


def _default(schema: Mapping[str, Any]) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def _sentences(what: Mapping[str, Any]) -> str:
    return str(what.get("description", ""))


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")
