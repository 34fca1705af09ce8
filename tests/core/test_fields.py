"""What the names of fields decide, and how fields are read."""

import pytest

from plane_tx.core.fields import (
    LONGEST_NAME_KEPT,
    NAMES_KEPT,
    REQUEST_MARKS,
    ByName,
    fields_of,
    is_forged,
    takes_html,
    tokens_of,
)


def test_a_name_is_judged_once_for_each_spelling():
    asked = []
    names = ByName(lambda name: asked.append(name) or name.lower())

    said = [names[name] for name in (b"Host", b"host", b"Host")]

    assert said == [b"host"] * 3
    assert asked == [b"Host", b"host"]


def test_names_that_clients_make_up_take_no_place_for_good():
    names = ByName(bytes.lower)

    for number in range(NAMES_KEPT + 1):
        assert names[b"X-%d" % number] == b"x-%d" % number
    names[b"X" * (LONGEST_NAME_KEPT + 1)]

    assert list(names) == [b"X-%d" % NAMES_KEPT]


@pytest.mark.parametrize("name", [b"X-Verified-Path", b"x_forwarded_for", b"X.Real.IP"])
def test_what_would_pass_for_a_word_of_ours_is_marked(name):
    assert is_forged(name)
    assert REQUEST_MARKS[name] == name.lower()


def test_fields_are_read_without_the_white_space_around_their_values():
    assert fields_of([b"A:1", b"B: \t2 ", b"C:"]) == ((b"A", b"1"), (b"B", b"2"), (b"C", b""))


def test_members_of_a_list_are_compared_in_lower_case():
    assert tokens_of([b"Close, TE", b" , x"]) == {b"close", b"te", b"x"}


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ([b"text/html,application/xhtml+xml;q=0.9"], True),
        ([b"application/json", b"Text/HTML"], True),
        ([b"*/*"], False),
        ([], False),
    ],
)
def test_who_takes_html_names_it(accepted, takes):
    assert takes_html(accepted) is takes
