"""Plain data into classes: nothing is coerced, and what does not fit is named."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Annotated, Any

import attrs
import pytest

from plane_tx.core.strict import (
    Count,
    Misfit,
    Most,
    Port,
    Seconds,
    make_converter,
    nearest,
    one_of,
    show,
    structure,
)


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Inner:
    number: float = 0.0
    whole: int = 0


@attrs.frozen
class Outer:
    name: str
    flag: bool = False
    wait: Seconds | None = None
    count: Count = Count(0)
    port: Port = Port(1)
    colour: Colour = Colour.RED
    words: tuple[str, ...] = ()
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()
    pairs: Mapping[str, int] = attrs.field(factory=dict)
    table: Mapping[str, Inner] = attrs.field(factory=dict)


@attrs.frozen
class Bounded:
    word: Annotated[str, Most(2)] = ""
    words: Annotated[tuple[Annotated[str, Most(3)], ...], Most(2)] | None = None
    pairs: Annotated[Mapping[Annotated[str, Most(3)], int], Most(2)] = attrs.field(factory=dict)


class Part:
    """What a converter of a test's own makes something of."""


@attrs.frozen
class Choosy:
    even: int = attrs.field()

    @even.validator
    def _check(self, _: object, value: int) -> None:
        if value % 2:
            raise ValueError("expected an even number")
        if value > 100:
            raise RuntimeError


CONVERTER = make_converter()
one_of(CONVERTER, Colour)


def test_what_fits_is_taken_as_it_is() -> None:
    data = {
        "name": "x", "flag": True, "wait": 1.5, "count": 2, "port": 65535, "colour": "blue",
        "words": ["a", "b"], "inner": {"number": 1}, "inners": [{"whole": 3}],
        "pairs": {"a": 1}, "table": {"t": {"whole": 4}},
    }  # fmt: skip

    made = structure(CONVERTER, data, Outer)

    assert made == Outer(
        "x", True, 1.5, 2, 65535, Colour.BLUE, ("a", "b"), Inner(1), (Inner(whole=3),),
        {"a": 1}, {"t": Inner(whole=4)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "name: is required"),
        ([], "expected an object, got []"),
        (None, "expected an object, got null"),
        ({"name": 1}, "name: expected a string, got 1"),
        ({"name": None}, "name: expected a string, got null"),
        ({"name": "x", "flag": 1}, "flag: expected true or false, got 1"),
        ({"name": "x", "flag": "true"}, 'flag: expected true or false, got "true"'),
        ({"name": "x", "wait": "ten"}, 'wait: expected a number >= 0, got "ten"'),
        ({"name": "x", "wait": True}, "wait: expected a number >= 0, got true"),
        ({"name": "x", "wait": -0.1}, "wait: expected a number >= 0, got -0.1"),
        ({"name": "x", "wait": float("nan")}, "wait: expected a number >= 0, got NaN"),
        ({"name": "x", "wait": math.inf}, "wait: expected a number <= 2147483647, got Infinity"),
        ({"name": "x", "wait": 2**31}, "wait: expected a number <= 2147483647, got 2147483648"),
        ({"name": "x", "count": -1}, "count: expected a whole number >= 0, got -1"),
        ({"name": "x", "count": 1.0}, "count: expected a whole number >= 0, got 1.0"),
        ({"name": "x", "count": True}, "count: expected a whole number >= 0, got true"),
        ({"name": "x", "port": 0}, "port: expected a port from 1 to 65535, got 0"),
        ({"name": "x", "port": 65536}, "port: expected a port from 1 to 65535, got 65536"),
        ({"name": "x", "port": "80"}, 'port: expected a port from 1 to 65535, got "80"'),
        ({"name": "x", "colour": "Red"}, 'colour: expected "red" or "blue", got "Red"'),
        ({"name": "x", "colour": []}, 'colour: expected "red" or "blue", got []'),
        ({"name": "x", "words": "ab"}, 'words: expected a list, got "ab"'),
        ({"name": "x", "words": ["a", 1]}, "words[1]: expected a string, got 1"),
        ({"name": "x", "inner": 1}, "inner: expected an object, got 1"),
        ({"name": "x", "inner": {"whole": 1.5}}, "inner.whole: expected a whole number, got 1.5"),
        ({"name": "x", "inner": {"number": "1"}}, 'inner.number: expected a number, got "1"'),
        ({"name": "x", "inners": [{}, 7]}, "inners[1]: expected an object, got 7"),
        ({"name": "", "inners": [{"number": ""}]}, 'inners[0].number: expected a number, got ""'),
        ({"name": "x", "pairs": []}, "pairs: expected an object, got []"),
        ({"name": "x", "pairs": {"a": None}}, "pairs['a']: expected a whole number, got null"),
        (
            {"name": "", "table": {"t": {"x": 1}}},
            "table['t'].x: unknown field; known here: number, whole",
        ),
        ({"name": "", "inner": {"numbr": 1}}, "inner.numbr: unknown field; did you mean 'number'?"),
        ({"name": "x", "a\nb": 1}, None),
        ({"name": ["x" * 100]}, f'name: expected a string, got ["{"x" * 55}...'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(data: Any, message: str | None) -> None:
    with pytest.raises(Misfit) as caught:
        structure(CONVERTER, data, Outer)

    assert message is None or str(caught.value) == message
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"word": "abc"}, "word: expected at most 2 characters, got 3"),
        ({"word": [1, 2, 3]}, "word: expected a string, got [1, 2, 3]"),
        ({"words": [1, 2, 3]}, "words: expected at most 2 entries, got 3"),
        ({"words": ["", "abcd"]}, "words[1]: expected at most 3 characters, got 4"),
        ({"words": "abc"}, 'words: expected a list, got "abc"'),
        ({"pairs": {"a": "", "b": "", "c": ""}}, "pairs: expected at most 2 entries, got 3"),
        ({"pairs": {"abcd": ""}}, 'pairs: the name "abcd": expected at most 3 characters, got 4'),
        ({"pairs": {"abc": ""}}, "pairs['abc']: expected a whole number, got \"\""),
    ],
)
def test_what_is_too_much_is_counted_before_it_is_looked_at(data: Any, message: str) -> None:
    with pytest.raises(Misfit) as caught:
        structure(CONVERTER, data, Bounded)

    assert str(caught.value) == message


def test_as_much_as_is_allowed_is_taken() -> None:
    made = structure(
        CONVERTER,
        {"word": "ab", "words": ["abc", ""], "pairs": {"abc": 1, "": 2}},
        Bounded,
    )

    assert made == Bounded("ab", ("abc", ""), {"abc": 1, "": 2})


@attrs.frozen
class Parts:
    parts: tuple[Part, ...] = ()
    named: Mapping[str, Part] = attrs.field(factory=dict)


@pytest.mark.parametrize(
    ("data", "path"),
    [({"parts": [1, 2, 3]}, "parts[1]"), ({"named": {"a": 1, "b": 2, "c": 3}}, "named['b']")],
)
def test_nothing_is_looked_at_after_the_first_misfit(data: Any, path: str) -> None:
    seen: list[object] = []
    converter = make_converter()

    def not_two(value: object, _type: object) -> object:
        seen.append(value)
        if value == 2:
            raise ValueError("expected anything but 2")
        return value

    converter.register_structure_hook(Part, not_two)
    with pytest.raises(Misfit) as caught:
        structure(converter, data, Parts)

    assert caught.value.path == path
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "", "x" * 65: 1}, f"{'x' * 64}: unknown field; known here: "),
        ({"name": "", "pairs": {"x" * 65: ""}}, f"pairs['{'x' * 64}']: expected a whole number"),
    ],
)
def test_a_long_name_is_cut_short(data: Any, message: str) -> None:
    with pytest.raises(Misfit) as caught:
        structure(CONVERTER, data, Outer)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("nam", "name"), ("xyz", None), ("x" * 63, "x" * 64), ("x" * 65, None)],
)
def test_a_typo_is_near_what_was_meant_unless_it_is_very_long(name: str, meant: str | None) -> None:
    assert nearest(name, ["name", "x" * 64]) == meant


def test_a_number_may_not_be_too_large_for_a_float() -> None:
    with pytest.raises(Misfit, match="number"):
        structure(CONVERTER, {"number": 10**400}, Inner)


@pytest.mark.parametrize(
    ("value", "message"),
    [(3, "^expected an even number"), (102, "^does not have the expected shape")],
)
def test_a_class_that_refuses_its_values_is_a_misfit_too(value: int, message: str) -> None:
    with pytest.raises(Misfit, match=message):
        structure(CONVERTER, {"even": value}, Choosy)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("é", '"é"'),
        ("a\nb\u2028", '"a\\nb\\u2028"'),
        ({1, 2}, "{1, 2}"),
        ([1.5, None], "[1.5, null]"),
        ("x" * 58, f'"{"x" * 58}"'),
        ("x" * 59, f'"{"x" * 56}...'),
        ({"x" * 100: "\n"}, f'{{"{"x" * 55}...'),
        (["\ud800"], '["\\ud800"]'),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16..."),
    ],
)
def test_a_value_is_shown_on_one_line_and_cut_short(value: object, shown: str) -> None:
    assert show(value) == shown
