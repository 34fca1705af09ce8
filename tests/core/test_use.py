"""What keeps a session in use, and what it counts."""

from __future__ import annotations

import attrs

from plane_tx.core.use import REQUESTS_KEPT, LastRequests, Request, Traffic, Use, UseKind, Visit


def test_each_direction_is_counted_for_itself_and_both_are_data() -> None:
    session, everyone = Traffic(), Traffic(1, 1, 1, 1, 1)
    use = Use(UseKind.WEBSOCKET, 1.0, traffic=(session, everyone))

    use.request()
    use.from_client(10, 1, 2.0)
    heard = use.last_data
    use.to_client(300, 2, 3.0)

    assert (heard, use.last_data) == (2.0, 3.0)
    assert attrs.astuple(session) == (1, 10, 300, 1, 2)
    assert attrs.astuple(everyone) == (2, 11, 301, 2, 3)


def test_two_uses_are_two_however_alike() -> None:
    uses = {Use(UseKind.REQUEST, 1.0), Use(UseKind.REQUEST, 1.0)}

    first, second = uses
    first.from_client(1, 0, 2.0)

    assert second.last_data is None


def test_a_use_that_is_logged_gives_no_token_away() -> None:
    use = Use(UseKind.REQUEST, 1.0, Visit("1.2.3.4", "/a", "ada", "t" * 43))

    assert "1.2.3.4" in repr(use)
    assert "tt" not in repr(use)


def test_a_use_counts_its_own_bytes() -> None:
    use = Use(UseKind.REQUEST, 1.0)

    use.from_client(10, 0, 2.0)
    use.from_client(20, 0, 2.0)
    use.to_client(300, 0, 3.0)

    assert (use.bytes_from_client, use.bytes_to_client) == (30, 300)


def test_only_the_last_requests_are_remembered_oldest_first() -> None:
    requests = LastRequests()
    before = list(requests)

    for number in range(REQUESTS_KEPT + 2):
        requests.append(Request(Visit(), b"GET", number, number, 200, 0, 0, "", ""))

    assert before == []
    assert [each.began for each in requests] == list(range(2, REQUESTS_KEPT + 2))
