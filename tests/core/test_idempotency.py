"""The same request twice: keys, digests, and answers that equal a naive model."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.errors import IdempotencyConflict, InvalidRequest
from plane_tx.core.idempotency import KEPT_SECONDS, Answer, Answers, body_digest, parse_key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def answer(key: str, at: float, body: bytes = b"{}") -> Answer:
    return Answer("app", key, b"digest", body, at)


@pytest.mark.parametrize("value", [b"a", b"8e03978e-40d5-43dd-bc93-6894a57f9324", b"~" * 255])
def test_a_key_is_what_the_header_says(value: bytes) -> None:
    assert parse_key(value) == value.decode()


@pytest.mark.parametrize("value", [b"", b"a b", b"a\tb", b"a\n", b"\x7f", b"\xc3\xa4", b"a" * 256])
def test_a_key_that_is_none_is_refused_with_what_is_allowed(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Idempotency-Key: expected 1 to 255 visible ASCII"):
        parse_key(value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[1,null],"b":"\xc3\xa4"}',
        b' { "b" : "\\u00e4" ,\n"a" : [ 1, null ] } ',
        b'{"b":"\\u00E4","a":[1,null]}',
    ],
)
def test_all_spellings_of_a_body_have_one_digest(body: bytes) -> None:
    assert body_digest(body) == body_digest('{"a":[1,null],"b":"ä"}'.encode())


@pytest.mark.parametrize("other", [b"1.0", b"true", b'"1"', b"[1]", b"null", b'{"1":1}'])
def test_values_of_two_kinds_have_two_digests(other: bytes) -> None:
    assert body_digest(b"1") != body_digest(other)


@given(JSON, JSON)
def test_two_bodies_have_one_digest_only_when_they_say_the_same(one: object, two: object) -> None:
    said = json.dumps(one, sort_keys=True), json.dumps(two, sort_keys=True)

    digests = body_digest(json.dumps(one).encode()), body_digest(json.dumps(two).encode())

    assert (digests[0] == digests[1]) == (said[0] == said[1])


def test_an_answer_is_found_for_24_hours_and_then_is_no_more() -> None:
    answers = Answers()

    answers.keep(answer("k", 100.0))

    assert answers.find("app", "k", b"digest", 100.0 + KEPT_SECONDS - 1) == b"{}"
    assert answers.find("app", "k", b"digest", 100.0 + KEPT_SECONDS) is None


def test_a_key_is_its_callers_own() -> None:
    answers = Answers()

    answers.keep(answer("k", 0.0))

    assert answers.find("other", "k", b"digest", 0.0) is None


def test_another_body_is_a_conflict_while_the_answer_is_kept() -> None:
    answers = Answers()
    answers.keep(answer("k", 0.0))

    with pytest.raises(IdempotencyConflict, match="another body"):
        answers.find("app", "k", b"other", 1.0)

    assert answers.find("app", "k", b"other", KEPT_SECONDS) is None


def test_the_oldest_make_room_for_the_newest() -> None:
    answers = Answers(most_kept=2)

    dropped = [answers.keep(answer(key, 0.0)) for key in "abac"]

    assert dropped == [[], [], [], [answer("b", 0.0)]]
    assert [kept.key for kept in answers] == ["a", "c"]


def test_a_clock_that_was_set_back_loses_nothing_of_yesterday_and_keeps_nothing_for_years() -> None:
    answers = Answers()
    answers.keep(answer("k", 1e9))

    assert answers.find("app", "k", b"digest", 1e9 - 5) == b"{}"
    assert len(answers.forget_old(1e9 - KEPT_SECONDS)) == 1


def test_what_an_answer_holds_is_not_shown() -> None:
    assert "secret" not in repr(answer("k", 0.0, b"secret"))


class Naive:
    """A list of everything that ever was, newest last."""

    def __init__(self) -> None:
        self.kept: list[Answer] = []

    def current(self, now: float) -> list[Answer]:
        newest = {(each.caller, each.key): each for each in self.kept}
        held = [each for each in self.kept if newest[each.caller, each.key] is each][-3:]
        return [each for each in held if now - each.at < KEPT_SECONDS]

    def find(self, caller: str, key: str, digest: bytes, now: float) -> bytes | None:
        found = [each for each in self.current(now) if (each.caller, each.key) == (caller, key)]
        if found and found[0].digest != digest:
            raise IdempotencyConflict
        return found[0].body if found else None


def outcome(find: Callable[..., bytes | None], *asked: object) -> object:
    try:
        return find(*asked)
    except IdempotencyConflict:
        return IdempotencyConflict


NAMES = st.sampled_from("ab")
DIGESTS = st.sampled_from([b"1", b"2"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["keep", "find", "forget"]), NAMES, NAMES, DIGESTS)
    | st.tuples(st.just("wait"), st.floats(0, KEPT_SECONDS / 2)),
    max_size=30,
)


@given(STEPS)
def test_answers_equal_a_naive_model(steps: list[tuple[object, ...]]) -> None:
    answers, model, now = Answers(most_kept=3), Naive(), 0.0
    for number, (what, *asked) in enumerate(steps):
        if what == "wait":
            now += asked[0]
        elif what == "keep":
            kept = Answer(*asked, str(number).encode(), now)
            answers.keep(kept)
            model.kept.append(kept)
        elif what == "find":
            assert outcome(answers.find, *asked, now) == outcome(model.find, *asked, now)
        else:
            answers.forget_old(now)
            assert list(answers) == model.current(now)
