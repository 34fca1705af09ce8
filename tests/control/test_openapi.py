"""openapi.json says what the code does: routes, fields, defaults, limits, kinds, examples."""

import collections.abc
import copy
import enum
import functools
import json
import re
import types
import typing

import attrs
import jsonschema_rs
import pytest

from plane_tx import __version__
from plane_tx.control import listing
from plane_tx.control.request import MOST_BODY_BYTES
from plane_tx.core import errors, idle, ledger, model, strict, use, views, wire
from plane_tx.core.containers import CAPABILITY, VolumeRequest
from plane_tx.core.idlerule import IdleRequest
from tests.control import contract
from tests.control.contract import DOCUMENT, misfits, within

SCHEMAS = DOCUMENT["components"]["schemas"]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

SCHEMA_OF = {
    wire.ConnectRequest: "ConnectRequest",
    wire.KeyRequest: "KeyRequest",
    wire.SpawnConfig: "SpawnConfig",
    wire.ExecutableRequest: "Executable",
    wire.CredentialsRequest: "Credentials",
    wire.ResourceLimitsRequest: "ResourceLimits",
    wire.ReadinessRequest: "Readiness",
    wire.KeepAliveRequest: "KeepaliveRequest",
    wire.LinkRequest: "LinkRequest",
    wire.RevokeRequest: "RevokeRequest",
    IdleRequest: "IdleRule",
    wire.ConnectResponse: "ConnectResponse",
}
REQUESTS = [kind for kind in SCHEMA_OF if kind is not wire.ConnectResponse]

#: Errors that a session fails with, that stop the start, or that the proxy answers: none of them
#: is an answer of the control listener.
NEVER_ANSWERED = {
    "ConfigError", "SpawnFailed", "ImageUnavailable",
    "BadRequest", "HeadTooLarge", "HeadTimeout", "WrongHost", "UnknownToken", "SessionNotReady",
    "UpstreamUnreachable", "IdleTimeout",
}  # fmt: skip


def operations():
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def test_it_is_served_as_it_stands(ask):
    answer = ask("GET", "/openapi.json")

    assert answer.headers["content-type"] == "application/json"
    assert answer.body == contract.FILE.read_bytes()


def test_it_is_valid_openapi():
    import schemathesis

    schema = schemathesis.openapi.from_dict(copy.deepcopy(DOCUMENT))

    assert DOCUMENT["openapi"].startswith("3.1.")
    schema.validate()


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_valid_json_schema(name):
    assert jsonschema_rs.meta.is_valid({"$schema": DIALECT, **SCHEMAS[name]})


def test_every_reference_leads_somewhere():
    for part in within(DOCUMENT):
        if isinstance(part.get("$ref"), str):
            assert contract.resolved(part)


def test_its_version_is_ours():
    assert DOCUMENT["info"]["version"] == __version__


def test_it_has_every_route_and_no_other():
    from plane_tx.control.app import ControlApp

    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in ControlApp.app.url_map.iter_rules()
        # HEAD goes with GET, as the document says of all of them at once.
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert {(path, method) for path, method, _ in operations()} == routes


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does():
    told = [operation for _, _, operation in operations()]

    assert len({operation["operationId"] for operation in told}) == len(told)
    assert all(operation["summary"] and operation["description"] for operation in told)


@pytest.mark.parametrize("kind", SCHEMA_OF, ids=lambda kind: kind.__name__)
def test_the_fields_of_a_class_are_those_of_its_schema(kind):
    schema = SCHEMAS[SCHEMA_OF[kind]]
    required = {field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING}

    assert set(schema["properties"]) == {field.name for field in attrs.fields(kind)}
    assert set(schema.get("required", [])) == required
    assert schema.get("additionalProperties", True) is (kind is wire.ConnectResponse)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_the_defaults_of_a_class_are_those_of_its_schema(kind):
    converter = wire.request_converter()
    types = typing.get_type_hints(kind)
    properties = SCHEMAS[SCHEMA_OF[kind]]["properties"]

    for field in attrs.fields(kind):
        if field.default is attrs.NOTHING:
            assert "default" not in properties[field.name]
            continue
        made = isinstance(field.default, attrs.Factory)
        default = field.default.factory() if made else field.default
        said = converter.structure(properties[field.name]["default"], types[field.name])
        assert said == default, field.name


def values_of(kind: type[enum.Enum]):
    return [member.value for member in kind]


def test_its_enums_are_ours():
    schemas = SCHEMAS

    assert schemas["Status"]["enum"] == values_of(model.Status)
    assert schemas["Reason"]["enum"] == values_of(model.Reason)
    assert schemas["TerminationKind"]["enum"] == values_of(model.TerminationKind)
    assert schemas["Routing"]["enum"] == values_of(model.Routing)
    counts = schemas["IdleRule"]["properties"]["count"]["enum"]
    assert counts == values_of(model.IdleCount)
    assert schemas["Cause"]["enum"] == values_of(idle.Cause)
    policies = schemas["Executable"]["properties"]["pull_policy"]["enum"]
    assert policies == [*values_of(model.PullPolicy), None]
    uses = schemas["Connection"]["properties"]["kind"]["enum"]
    assert set(uses) <= set(values_of(use.UseKind))
    assert schemas["How"]["enum"] == values_of(ledger.How)
    upgraded = schemas["UpgradedConnection"]["properties"]["kind"]["enum"]
    assert upgraded == values_of(ledger.ConnectionKind)


def test_its_public_reasons_are_planes():
    told = SCHEMAS["StatusEntry"]["properties"]["termination_reason"]["enum"]
    states = (model.Terminated(model.Status.READY, reason) for reason in model.Reason)
    entries = (views.status_entry(model.StatusEntry(state, 0.0)) for state in states)

    assert set(told) == {entry.get("termination_reason") for entry in entries} - {None}


def subclasses(kind):
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def test_it_lists_every_kind_of_error():
    ours = {kind.kind for kind in subclasses(errors.PlaneError)}

    assert set(SCHEMAS["ErrorKind"]["enum"]) == ours - NEVER_ANSWERED


def test_each_kind_of_error_stands_at_the_status_it_is_answered_by():
    told = {
        (kind, int(status))
        for _, _, operation in operations()
        for status, response in operation["responses"].items()
        for part in within(contract.resolved(response))
        for kind in part.get("properties", {}).get("kind", {}).get("enum", ())
    }
    ours = {(kind.kind, kind.status) for kind in subclasses(errors.PlaneError)}

    assert told <= ours
    answered = {(kind, status) for kind, status in ours if kind not in NEVER_ANSWERED}
    assert answered - told == {("InvalidRequest", 405)}


def test_its_limits_are_ours():
    parameters = {it["name"]: it for it in DOCUMENT["paths"]["/ctrl/backends"]["get"]["parameters"]}
    limit = parameters["limit"]["schema"]
    responses = DOCUMENT["components"]["responses"]

    assert (limit["default"], limit["maximum"]) == (listing.DEFAULT_LIMIT, listing.MOST_LIMIT)
    assert SCHEMAS["Seconds"]["maximum"] == strict.MOST_SECONDS
    claims = SCHEMAS["ConnectRequest"]["properties"]["auth"]["description"]
    assert f"{wire.MAX_CLAIMS_BYTES} bytes" in claims
    assert f"{wire.MOST_CLAIMS_LEVELS} levels" in claims
    assert f"over {MOST_BODY_BYTES // 1024**2} MiB" in responses["BodyTooLarge"]["description"]


def bounds_in(hint):
    """What an annotation bounds: in its own words, and in those of JSON Schema."""
    for part in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
        if typing.get_origin(part) is not typing.Annotated:
            continue
        of, *notes = typing.get_args(part)
        sizes = [note.size for note in notes if isinstance(note, strict.Most)]
        kind = typing.get_origin(of) or of
        yield from (
            ({str: "maxLength", tuple: "maxItems"}.get(kind, "maxProperties"), it) for it in sizes
        )
        for child, below in zip(CHILDREN.get(kind, ()), typing.get_args(of), strict=False):
            yield from ((f"{child}.{name}", size) for name, size in bounds_in(below))


CHILDREN = {tuple: ("items",), collections.abc.Mapping: ("propertyNames", "additionalProperties")}


def stated(schema, name):
    for step in name.split("."):
        schema = contract.resolved(schema)[step]
    return schema


@pytest.mark.parametrize("kind", [*REQUESTS, VolumeRequest], ids=lambda kind: kind.__name__)
def test_what_a_class_bounds_its_schema_bounds_alike(kind):
    properties = SCHEMAS[SCHEMA_OF.get(kind, "Volume")]["properties"]

    for field, hint in typing.get_type_hints(kind, include_extras=True).items():
        for name, size in bounds_in(hint):
            assert stated(properties[field], name) == size, (field, name)


LIMITS = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}


def test_no_text_list_or_map_of_a_request_is_without_a_bound():
    unbounded = {
        (name, field)
        for name in ("Volume", *(SCHEMA_OF[kind] for kind in REQUESTS))
        for field, schema in SCHEMAS[name]["properties"].items()
        for part in within({"allOf": [schema]} if "$ref" not in schema else {})
        for said in [part.get("type", ())]
        for kind in ([said] if isinstance(said, str) else said)
        if kind in LIMITS and not {LIMITS[kind], "enum"} & set(part)
    }

    # The patterns of these say it, and what auth is described as.
    assert unbounded == {
        ("Volume", "name"), ("Executable", "runtime"), ("Executable", "cap_add"),
        ("Executable", "network_name"),
        ("SpawnConfig", "subdomain"), ("ConnectRequest", "auth"),
    }  # fmt: skip


def test_every_operation_may_refuse_a_body_that_is_too_large():
    refusal = {"$ref": "#/components/responses/BodyTooLarge"}

    told = [operation["responses"].get("413") for _, _, operation in operations()]

    assert told == [refusal] * len(told)


def test_the_longest_wait_is_ours():
    from plane_tx.control.app import MOST_WAIT_SECONDS

    wait = DOCUMENT["components"]["parameters"]["Wait"]["schema"]

    assert wait["maximum"] == MOST_WAIT_SECONDS


def examples():
    for part in within(DOCUMENT):
        if isinstance(part.get("schema"), dict):
            told = list(part.get("examples", {}).values()) or [{"value": part.get("example")}]
            for example in told:
                if example["value"] is not None or "examples" in part:
                    yield part["schema"], example["value"]
        if isinstance(part.get("examples"), list):
            for value in part["examples"]:
                yield part, value


def test_every_example_is_what_its_schema_says():
    checked = 0
    for schema, value in examples():
        if "contentSchema" in schema.get("properties", {}).get("data", {}):
            told = schema["properties"]["data"]["contentSchema"]
            values = [json.loads(data) for data in re.findall(r"data: (.*)\n", value)]
            assert values
            assert [misfits(told, each) for each in values] == [[]] * len(values)
        else:
            assert misfits(schema, value) == []
        checked += 1

    assert checked > 40


def test_every_operation_has_examples_of_what_it_takes_and_answers():
    for path, method, operation in operations():
        takes = operation.get("requestBody", {}).get("content", {})
        gives = contract.resolved(operation["responses"].get("200", {})).get("content", {})
        shown = path not in ("/openapi.json", "/ctrl/b/{session_id}/autopsy.tar.gz")
        for content in (*takes.values(), *gives.values()) if shown else ():
            assert {"example", "examples"} & set(content), (path, method)


CONNECT = DOCUMENT["paths"]["/ctrl/connect"]["post"]["requestBody"]["content"]["application/json"]


@pytest.mark.parametrize("name", CONNECT["examples"])
def test_every_example_of_a_connect_is_accepted(name):
    example = CONNECT["examples"][name]["value"]

    assert wire.parse_connect(json.dumps(example).encode())


#: What a client could put where something else belongs. Not 1.0, which JSON Schema takes for a
#: whole number and we do not.
ODD_VALUES = (
    None, True, False, 0, 1, -1, 99, 100, 599, 600, 0.5, -0.5, 65535, 65536, 2**31 - 1, 2**31,
    2**70, "", " ", "a", "A", "a-b", "-a", "a-", "a/b", "/", "/a b", "a=b", "a\x00", "a\n",
    "a" * 45, "a" * 46, "a" * 52, "b" * 63, "b" * 64, "b" * 255, "b" * 256,
    "/" + "a" * 1023, "/" + "a" * 1024, "a" * 131_071, "a" * 131_072,
    ["a"] * 1024, ["a"] * 1025, [200] * 500, [200] * 501, ["ALL"] * 64, ["ALL"] * 65,
    ["a" * 131_071], ["a" * 131_072], {"a" * 255: "a"}, {"a" * 256: "a"},
    ["a"] * 16, ["a"] * 17, ["a" * 63], ["a" * 64], ["a" * 64 + "*"],
    ["a" * 65 + "*"], ["*a" * 64], ["*a" * 63 + "*"], ["a" + "*" * 127],
    ["a" + "*" * 128], ["*"], ["**"], ["*a*"], ["jupyter"],
    {"a": "a" * 1024}, {"a": "a" * 1025}, {"a": "a" * 131_072},
    *({f"/{number}": "" for number in range(most)} for most in (64, 65, 1000, 1001)),
    {"/a": ",".join(["rw"] * 342)}, {"/a": ",".join(["rw"] * 341)}, {"/" + "a" * 1024: ""},
    *([{"name": "a", "path": "/a"}] * most for most in (64, 65)),
    "path", "host", "Never", "all", "messages", "bytes",
    [], [""], ["a"], ["a\x00"], [None], [1], [200], [99],
    {}, {"a": "b"}, {"a": None}, {"a": 1},
    {"": "a"}, {"a=b": "c"}, {"a\x00": "c"}, {"a": "\x00"}, {"path": "/x"}, {"name": "x"},
    {"username": "u", "password": "p"}, {"username": "u"}, {"pids_limit": 1},
)  # fmt: skip

PLACES = {
    wire.ConnectRequest: (),
    wire.KeyRequest: ("key",),
    wire.SpawnConfig: ("spawn_config",),
    wire.ExecutableRequest: ("spawn_config", "executable"),
    wire.CredentialsRequest: ("spawn_config", "executable", "credentials"),
    wire.ResourceLimitsRequest: ("spawn_config", "executable", "resource_limits"),
    wire.ReadinessRequest: ("spawn_config", "executable", "readiness"),
    IdleRequest: ("spawn_config", "idle"),
}
FULL = {
    "key": {"name": "a"},
    "spawn_config": {
        "executable": {
            "credentials": {"username": "u", "password": "p"},
            "resource_limits": {},
            "readiness": {},
        },
        "idle": {"count": "messages", "ignore": ["ping"]},
    },
}


def is_accepted(body):
    try:
        wire.parse_connect(json.dumps(body).encode())
    except errors.InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("kind", PLACES, ids=lambda kind: kind.__name__)
def test_what_a_field_takes_is_what_its_schema_says(kind):
    for field in (*attrs.fields_dict(kind), "unknown"):
        for value in ODD_VALUES:
            if field == "auth" and len(json.dumps(value)) > wire.MAX_CLAIMS_BYTES:
                continue  # No keyword of JSON Schema counts bytes.
            body = copy.deepcopy(FULL)
            functools.reduce(lambda part, name: part[name], PLACES[kind], body)[field] = value
            wrong = misfits(CONNECT["schema"], body)

            assert is_accepted(body) is not bool(wrong), (field, value, wrong)


def told_by(asked, status=200, headers=None, body=b"null"):
    told = {"content-type": "application/json", **(headers or {})}
    contract.check(asked, status, told, body)


STATUS = contract.Asked("GET", "/ctrl/status", {}, b"")
WELL = b'{"status":"ok","version":"1","hash":""}'


def test_an_answer_as_the_document_has_it_passes():
    passed = told_by(STATUS, body=WELL)

    assert passed is None


@pytest.mark.parametrize(
    ("asked", "answer", "said"),
    [
        (attrs.evolve(STATUS, target="/ctrl/elsewhere"), {}, "no such operation"),
        (STATUS, {"status": 418}, "no such status"),
        (STATUS, {"body": WELL.replace(b'"ok"', b'"bad"')}, "was expected"),
        (STATUS, {"body": WELL.replace(b'"1"', b'"1","more":1')}, "more"),
        (STATUS, {"headers": {"content-type": "text/plain"}, "body": WELL}, "text/plain"),
        (contract.Asked("GET", "/pub/ready", {}, b""), {"body": b'{"status":"ready"}'}, "origin"),
        (
            contract.Asked("POST", "/ctrl/b/a/soft-terminate?wait=x", {}, b""), {}, "is no number",
        ),
    ],
)  # fmt: skip
def test_an_answer_that_the_document_does_not_have_fails(asked, answer, said):
    with pytest.raises(AssertionError, match=said):
        told_by(asked, **answer)


def test_the_capabilities_that_it_names_are_those_that_are_taken():
    cap_add = DOCUMENT["components"]["schemas"]["Executable"]["properties"]["cap_add"]

    assert cap_add["items"]["pattern"] == CAPABILITY
