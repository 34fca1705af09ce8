"""Templates of pages: values, and what may run."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from plane_tx.core.errors import ConfigError
from plane_tx.core.pages import parse_page, sentence


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def directives(policy: str) -> dict[str, str]:
    parted = (directive.partition(" ") for directive in policy.split("; "))
    return {name: value for name, _, value in parted}


def test_values_are_escaped_in_text_and_in_attributes() -> None:
    page = parse_page('<p title="{{a}}">{{ b }}</p>', "x.html", ("a", "b"))

    shown = page.render({"a": "\"'<&>", "b": "<script>alert(1)</script>"})

    assert shown == (
        b'<p title="&quot;&#x27;&lt;&amp;&gt;">&lt;script&gt;alert(1)&lt;/script&gt;</p>'
    )


def test_a_value_is_not_read_as_a_template() -> None:
    page = parse_page("{{a}}{{b}}", "x.html", ("a", "b"))

    assert page.render({"a": "{{b}}", "b": "2"}) == b"{{b}}2"


def test_a_name_that_is_none_is_told_with_its_file() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_page("<p>{{statsu}}</p>", "/etc/pages/gone.html", ("status", "title"))

    assert str(raised.value) == (
        "/etc/pages/gone.html: {{statsu}} is no value of this page; it has status, title"
    )


def test_scripts_and_styles_are_named_by_their_hashes_and_left_as_they_are() -> None:
    script, style = "if (a) {{ b() }}", "p::after { content: '{{a}}' }"
    text = f"<STYLE>{style}</STYLE><p>{{{{a}}}}</p><script type='module'>{script}</script>"

    page = parse_page(text, "x.html", ("a",))

    found = directives(page.policy)
    assert found["script-src"] == hashed(script)
    assert found["style-src"] == hashed(style)
    assert page.render({"a": "1"}).decode() == text.replace("<p>{{a}}</p>", "<p>1</p>")


def test_each_of_several_is_named() -> None:
    page = parse_page("<style>a</style><style>b</style>", "x.html", ())

    assert directives(page.policy)["style-src"] == f"{hashed('a')} {hashed('b')}"


def test_a_page_without_any_may_run_nothing() -> None:
    page = parse_page("<p>", "x.html", ())

    assert directives(page.policy) == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
    }


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_end_as_browsers_read_them_before_they_hash(end: str) -> None:
    page = parse_page(f"<script>a{end}b</script>", "x.html", ())

    assert hashed("a\nb") in page.policy
    assert not re.search(rb"\r", page.render({}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("it waits", "It waits."), ("Why?", "Why?"), ("", "."), ("opening…", "Opening…")],
)
def test_a_sentence_begins_and_ends_as_one(text: str, expected: str) -> None:
    assert sentence(text) == expected
