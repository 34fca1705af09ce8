"""The Autobahn Testsuite finds a peer behind the proxy to be what it is without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.comparison import bad, differences
from tests.conformance.suite import QUICK, against_client, against_server

pytestmark = pytest.mark.autobahn

#: Groups 1 to 7, 10, 12.1 and 13.1.
CASES = 246 + 1 + 18 + 18


def test_a_server_behaves_behind_the_proxy_as_it_does_without(tmp_path: Path) -> None:
    direct, proxied = against_server(tmp_path, QUICK)

    assert len(direct) == CASES
    assert not bad(direct)
    assert not differences(direct, proxied)


def test_a_client_behaves_before_the_proxy_as_it_does_without(tmp_path: Path) -> None:
    direct, proxied = against_client(tmp_path, QUICK)

    assert len(direct) == CASES
    assert not bad(direct)
    assert not differences(direct, proxied)
