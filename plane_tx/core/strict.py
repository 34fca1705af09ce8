"""Plain data (parsed JSON or TOML) into attrs classes, refusing what does not fit by its name."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NewType, TypeVar, cast, get_args, get_origin

import attrs
import cattrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
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

#: No more of a value, or of a name that may be the caller's, is said again.
_MOST_SHOWN = 60
_MOST_NAME_SHOWN = 64

_AS_IT_IS = json.JSONEncoder(ensure_ascii=False)
_IN_ASCII = json.JSONEncoder()


@attrs.frozen
class Most:
    """How many characters or entries there may be at most of what this annotates.

    It is checked before anything of the value is looked at.
    """

    size: int


#: What has a place in names, paths and references of any system.
Text = Annotated[str, Most(1024)]

#: What names one thing.
Name = Annotated[str, Most(255)]


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
        near = nearest(name, known)
        hint = f"did you mean {near!r}?" if near else f"known here: {', '.join(sorted(known))}"
        super().__init__(f"unknown field; {hint}")
        self.name = name


class _Within(Exception):
    """Why one part of a list or of a map does not fit; `step` leads to that part."""

    def __init__(self, step: str, error: Exception) -> None:
        super().__init__()
        self.step = step
        self.error = error


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any is near; a very long name is none's typo."""
    if len(name) > _MOST_NAME_SHOWN:
        return None
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def show(value: object) -> str:
    """A value as JSON, on one line and cut short; what is cut off is not even written."""
    try:
        text = _beginning(value, _AS_IT_IS)
        text = text if text.isprintable() else _beginning(value, _IN_ASCII)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def _beginning(value: object, encoder: json.JSONEncoder) -> str:
    enough = _MOST_SHOWN + 1
    text = ""
    for piece in encoder.iterencode(value[:enough] if isinstance(value, str) else value):
        text += piece[:enough]
        if len(text) >= enough:
            break
    return text[:enough]


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
    _register(converter, Annotated, _at_most)

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
    # cattrs makes a tuple of any iterable, and so of a string, and goes on after a misfit.
    inner = get_args(kind)[0]
    plain = converter.get_structure_hook(inner)

    def structure(value: object, _type: object) -> Any:
        if not isinstance(value, list):
            raise _Unexpected("a list", value)
        made: list[Any] = []
        try:
            for item in value:
                made.append(plain(item, inner))  # noqa: PERF401  # its length is the index
        except Exception as error:  # noqa: BLE001  # a hook may raise anything
            raise _Within(f"[{len(made)}]", error) from None
        return tuple(made)

    return structure


def _map_of(kind: Any, converter: Converter) -> Callable[[object, object], Any]:
    of_name, of_value = get_args(kind)
    plain_name = converter.get_structure_hook(of_name)
    plain_value = converter.get_structure_hook(of_value)

    def structure_name(name: object) -> Any:
        try:
            return plain_name(name, of_name)
        except ValueError as error:
            raise ValueError(f"the name {show(name)}: {error}") from None

    def structure(value: object, _type: object) -> Any:
        if not isinstance(value, dict):
            raise _Unexpected("an object", value)
        made: dict[Any, Any] = {}
        for name, item in value.items():
            structured = structure_name(name)
            try:
                made[structured] = plain_value(item, of_value)
            except Exception as error:  # noqa: BLE001  # a hook may raise anything
                raise _Within(f"[{name[:_MOST_NAME_SHOWN]!r}]", error) from None
        return made

    return structure


def _at_most(kind: Any, converter: Converter) -> Callable[[object, object], Any]:
    inner, *notes = get_args(kind)
    plain = converter.get_structure_hook(inner)
    most = next(note.size for note in notes if isinstance(note, Most))
    plural = " characters" if inner is str else " entries"
    sized: Any = {str: str, tuple: list, Mapping: dict}[get_origin(inner) or inner]

    def structure(value: object, _type: object) -> Any:
        if isinstance(value, sized) and len(value) > most:
            raise ValueError(f"expected at most {most}{plural}, got {len(value)}")
        return plain(value, inner)

    return structure


def one_of(converter: Converter, kind: type[Any]) -> None:
    """Let an enum of strings be given by its value, and name the values when it is not."""
    members = {member.value: member for member in kind}
    allowed = " or ".join(json.dumps(name) for name in members)

    def structure(value: object, _type: object) -> Any:
        if not isinstance(value, str) or value not in members:
            raise _Unexpected(allowed, value)
        return members[value]

    converter.register_structure_hook(kind, structure)


def structure(converter: Converter, data: object, kind: type[T]) -> T:
    """Make a `kind` of `data`. Raises `Misfit` naming the first field that does not fit."""
    try:
        return converter.structure(data, kind)
    except Exception as error:  # noqa: BLE001  # cattrs lets any error of a hook or a class through
        raise _first_misfit(error, "") from None


def _first_misfit(error: BaseException, path: str) -> Misfit:
    if isinstance(error, _Within):
        return _first_misfit(error.error, path + error.step)
    if isinstance(error, ClassValidationError):
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
    name = name[:_MOST_NAME_SHOWN]
    name = name if name.isprintable() else repr(name)
    return f"{path}.{name}" if path else name


def _step(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{note.name}"
    return ""
