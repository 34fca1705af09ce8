"""Reads what came over the wire, which may be anything, into models or one of our errors."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import attrs

from plane_tx.client.errors import BY_KIND, PlaneClientError, Unreadable

T = TypeVar("T")

#: As much of what cannot be read as an error shows.
SHOWN_CHARACTERS = 80


def parsed(body: bytes) -> object:
    """What `body` says as JSON. Raises `Unreadable`, whatever it is."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        shown = ascii(body[:SHOWN_CHARACTERS].decode("latin-1"))
        raise Unreadable(
            f"the answer is not JSON, but {shown}: does PLANE_TX_URL name the control listener?"
        ) from None


def _no_number(word: str) -> object:
    raise ValueError(word)


def model(kind: type[T], data: object) -> T:
    """`data` as a model. Fields that the model does not know are left to its `told`.

    Raises `Unreadable` naming the field.
    """
    return cast(T, _object(kind, data, kind.__name__.lower()))


def error(status: int, headers: Mapping[str, str], body: bytes) -> PlaneClientError:
    """The error that an answer with such a status is, as its envelope tells it if it has one."""
    retry_after = seconds(headers.get("retry-after", ""))
    try:
        data = parsed(body)
    except Unreadable:
        data = None
    match data:
        case {"id": str(error_id), "kind": str(kind), "message": str(message)}:
            made = BY_KIND.get(kind, PlaneClientError)
            return made(
                message, kind=kind, status=status, error_id=error_id, retry_after=retry_after
            )
    return Unreadable(
        f"the answer is {status} and says no reason: does PLANE_TX_URL name the control listener?",
        status=status,
        retry_after=retry_after,
    )


def seconds(text: str) -> float | None:
    """A Retry-After in seconds; None for anything else, dates too (RFC 9110 section 10.2.3)."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


def _object(kind: type[Any], data: object, where: str) -> object:
    if not isinstance(data, dict):
        raise _misfit(where, "an object", data)
    values: dict[str, object] = {}
    for name, wire, hint, is_required in _fields(kind):
        if name == "told":
            values[name] = data
        elif wire in data:
            values[name] = _value(hint, data[wire], f"{where}.{wire}")
        elif is_required:
            raise Unreadable(f"the answer makes no sense: {where}.{wire} is missing")
    return kind(**values)


def _fields(kind: type[Any]) -> tuple[tuple[str, str, Any, bool], ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        (each.name, each.metadata.get("wire", each.name), hints[each.name], not _has_default(each))
        for each in attrs.fields(kind)
    )


def _has_default(field: attrs.Attribute[Any]) -> bool:
    return field.default is not attrs.NOTHING


def _value(hint: Any, value: object, where: str) -> object:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    if attrs.has(hint):
        return _object(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], each, where) for each in value)
    if origin is not None and origin is not tuple and isinstance(value, dict):
        return {name: _value(arguments[1], each, where) for name, each in value.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(value, where)
    if (
        origin is not None
        or not isinstance(value, hint)
        or isinstance(value, bool) != (hint is bool)
    ):
        raise _misfit(where, _named(hint), value)
    return value


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Unreadable(f"the answer makes no sense: {where} is too large a number") from None


def _named(hint: Any) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint) or ("a list" if typing.get_origin(hint) is tuple else "an object")


def _misfit(where: str, expected: str, value: object) -> Unreadable:
    shown = ascii(value)[:SHOWN_CHARACTERS]
    return Unreadable(f"the answer makes no sense: {where}: expected {expected}, got {shown}")
