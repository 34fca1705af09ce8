"""Plain data (parsed JSON or TOML) into attrs classes, refusing what does not fit by its name."""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, NewType, TypeVar, cast, get_args, get_origin

import attrs
import cattrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)

T = TypeVar("T")

#: A span of time in seconds, zero or more, and so small that it can be added to any moment.
Seconds = NewType("Seconds", float)

#: The longest span, 68 years: Plane's limits are 32 bits wide.
MOST_SECONDS = 2**31 - 1

#: A whole number, zero or more.
Count = NewType("Count", int)

#: A TCP port that a server can listen on.
Port = NewType("Port", int)


class Misfit(Exception):
    """Data that does not fit: `path` names the field, `problem` says what it should have been."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class _Unexpected(ValueError):
    """One value that is not what its field expects."""

    def __init__(self, expected: str, got: object) -> None:
        super().__init__(f"expected {expected}, got {show(got)}")


class _UnknownField(ValueError):
    """A field that the class does not have."""

    def __init__(self, name: str, known: list[str]) -> None:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        super().__init__(f"unknown field; {hint}")
        self.name = name


def show(value: object) -> str:
    """A value as JSON, on one line and cut short."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        text = text if text.isprintable() else json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _exactly(kind: type, expected: str) -> Callable[[object, object], Any]:
    def structure(value: object, _type: object) -> Any:
        if type(value) is not kind:
            raise _Unexpected(expected, value)
        return value

    return structure


def _number(value: object, _type: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Unexpected("a number", value)
    return value


def _seconds(value: object, _type: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unexpected("a number >= 0", value)
    if not value >= 0:
        raise _Unexpected("a number >= 0", value)
    if value > MOST_SECONDS:
        raise _Unexpected(f"a number <= {MOST_SECONDS}", value)
    return value


def _count(value: object, _type: object) -> int:
    if type(value) is not int or value < 0:
        raise _Unexpected("a whole number >= 0", value)
    return value


def _port(value: object, _type: object) -> int:
    if type(value) is not int or not 0 < value < 65536:
        raise _Unexpected("a port from 1 to 65535", value)
    return value


def _object_of(kind: type[Any], converter: Converter) -> Callable[[object, object], Any]:
    plain = cattrs.gen.make_dict_structure_fn(kind, converter)
    known = [field.name for field in attrs.fields(kind)]

    def structure(value: object, _type: object) -> Any:
        if not isinstance(value, Mapping):
            raise _Unexpected("an object", value)
        for name in value:
            if name not in known:
                raise _UnknownField(str(name), known)
        return plain(value, kind)

    return structure


def make_converter() -> Converter:
    """A converter that coerces nothing: a string is no number, and an unknown field is refused."""
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook(str, _exactly(str, "a string"))
    converter.register_structure_hook(bool, _exactly(bool, "true or false"))
    converter.register_structure_hook(int, _exactly(int, "a whole number"))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Seconds, _seconds)
    converter.register_structure_hook(Count, _count)
    converter.register_structure_hook(Port, _port)

    _register(converter, tuple, _list_of)
    _register(converter, Mapping, _map_of)

    def attrs_hook(kind: type[Any]) -> Callable[[object, object], Any]:
        return _object_of(kind, converter)

    converter.register_structure_hook_factory(attrs.has, attrs_hook)
    return converter


def _register(converter: Converter, origin: object, factory: Callable[..., Any]) -> None:
    def takes(kind: Any) -> bool:
        return get_origin(kind) is origin

    def make(kind: Any) -> Callable[[object, object], Any]:
        return cast("Callable[[object, object], Any]", factory(kind, converter))

    converter.register_structure_hook_factory(takes, make)


def _list_of(kind: Any, converter: Converter) -> Callable[[object, object], Any]:
    # cattrs makes a tuple of any iterable, and so of a string; we want what JSON calls a list.
    inner: Any = types.GenericAlias(list, get_args(kind)[:1])
    plain = converter.get_structure_hook(inner)

    def structure(value: object, _type: object) -> Any:
        if not isinstance(value, list):
            raise _Unexpected("a list", value)
        return tuple(plain(value, inner))

    return structure


def _map_of(kind: Any, converter: Converter) -> Callable[[object, object], Any]:
    inner: Any = types.GenericAlias(dict, get_args(kind))
    plain = converter.get_structure_hook(inner)

    def structure(value: object, _type: object) -> Any:
        if not isinstance(value, dict):
            raise _Unexpected("an object", value)
        return plain(value, inner)

    return structure


def one_of(converter: Converter, kind: type[Any]) -> None:
    """Let an enum be given by its value, and name the values when it is not."""

    def structure(value: object, _type: object) -> Any:
        try:
            return kind(value)
        except ValueError:
            allowed = " or ".join(json.dumps(member.value) for member in kind)
            raise _Unexpected(allowed, value) from None

    converter.register_structure_hook(kind, structure)


def structure(converter: Converter, data: object, kind: type[T]) -> T:
    """Make a `kind` of `data`. Raises `Misfit` naming the first field that does not fit."""
    try:
        return converter.structure(data, kind)
    except Exception as error:  # noqa: BLE001  # cattrs lets any error of a hook or a class through
        raise _first_misfit(error, "") from None


def _first_misfit(error: BaseException, path: str) -> Misfit:
    if isinstance(error, ClassValidationError | IterableValidationError):
        inner = error.exceptions[0]
        return _first_misfit(inner, (path + _step(inner)).removeprefix("."))
    if isinstance(error, _UnknownField):
        return Misfit(_join(path, error.name), str(error))
    if isinstance(error, ForbiddenExtraKeysError):
        return Misfit(path, f"unknown field {min(error.extra_fields)!r}")
    if isinstance(error, KeyError):
        return Misfit(path, "is required")
    if isinstance(error, _Unexpected | ValueError):
        return Misfit(path, str(error))
    return Misfit(path, "does not have the expected shape")


def _join(path: str, name: str) -> str:
    name = name if name.isprintable() else repr(name)
    return f"{path}.{name}" if path else name


def _step(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{note.name}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index!r}]"
    return ""
