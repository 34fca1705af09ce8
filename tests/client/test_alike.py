"""The two clients offer the same, and both take what a connect's options are."""

from __future__ import annotations

import inspect
import re

import attrs
import pytest

from plane_tx.client import AsyncClient, Client
from plane_tx.client.calls import ConnectFields, ConnectOptions

OFFERED = sorted(
    name for name, value in vars(Client).items() if inspect.isfunction(value) and name[0] != "_"
)


def blocking(annotation: str) -> str:
    """What stands in the blocking client where the other has `annotation`."""
    one = re.sub(r"AsyncGenerator\[(.+), None\]", r"Generator[\1, None, None]", annotation)
    return one.replace("AsyncBaseTransport", "BaseTransport")


def parameters(function: object) -> list[tuple[str, str, object, object]]:
    found = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return [
        (each.name, blocking(str(each.annotation)), default_of(each), each.kind) for each in found
    ]


def default_of(parameter: inspect.Parameter) -> object:
    default = parameter.default
    return default.__code__.co_code if inspect.isfunction(default) else default


def test_both_have_the_same_methods() -> None:
    others = {name for name, value in vars(AsyncClient).items() if inspect.isfunction(value)}

    assert {name for name in others if name[0] != "_"} == set(OFFERED)


@pytest.mark.parametrize("name", ["__init__", *OFFERED])
def test_a_method_takes_gives_and_promises_the_same(name: str) -> None:
    one, other = getattr(Client, name), getattr(AsyncClient, name)

    assert parameters(other) == parameters(one)
    assert blocking(other.__annotations__["return"]) == one.__annotations__["return"]
    assert other.__doc__ == one.__doc__


@pytest.mark.parametrize("name", OFFERED)
def test_what_blocks_in_one_is_awaited_in_the_other(name: str) -> None:
    streams = "Generator" in getattr(Client, name).__annotations__["return"]

    assert inspect.iscoroutinefunction(getattr(AsyncClient, name)) is not streams


def test_the_names_that_connect_takes_are_those_of_its_options() -> None:
    fields = {each.name: each.type for each in attrs.fields(ConnectOptions)}
    named = {
        name: str(each.__forward_arg__) for name, each in ConnectFields.__annotations__.items()
    }

    assert named == {name: kind for name, kind in fields.items() if name != "app"}
