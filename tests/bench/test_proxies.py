"""A proxy that is not installed is left out, and the report says so."""

import attrs

from bench.proxies import KINDS, named
from bench.report import HAPROXY


def test_one_that_is_not_here_is_named_with_the_way_to_get_it() -> None:
    haproxy = next(kind for kind in KINDS if kind.name == HAPROXY)

    absent = attrs.evolve(haproxy, program=lambda: None)

    assert named(absent) == ("HAProxy is left out, for it is not here (apt-get install haproxy)")
