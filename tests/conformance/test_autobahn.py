"""The Autobahn Testsuite finds a peer behind the proxy to be what it is without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.comparison import bad, differences
from tests.conformance.suite import QUICK, against_client, against_server

pytestmark = pytest.mark.autobahn

#: Groups 1 to 7, 10, 12.1 and 13.1.
CASES = 246 + 1 + 18 + 18


#: The case in which the proxy does not do as the server does. After a Close frame that is too long
#: to be one the server hangs up at once; the proxy when it has asked, for a second, why.
LATE = "7.3.6: direct OK, closed OK with None; proxied OK, closed FAILED BY CLIENT with None"


def test_a_server_behaves_behind_the_proxy_as_it_does_without(tmp_path: Path) -> None:
    direct, proxied = against_server(tmp_path, QUICK)

    assert len(direct) == CASES
    assert not bad(direct)
    assert differences(direct, proxied) == [LATE]


def test_a_client_behaves_before_the_proxy_as_it_does_without(tmp_path: Path) -> None:
    direct, proxied = against_client(tmp_path, QUICK)

    assert len(direct) == CASES
    assert not bad(direct)
    assert not differences(direct, proxied)
