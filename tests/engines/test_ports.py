"""Ports of this box, each given to one session at a time."""

from __future__ import annotations

import socket

import pytest

from plane_tx.core.errors import SpawnFailed
from plane_tx.engines.ports import LOOPBACK, MOST_TRIES, Ports, claimed


@pytest.fixture
def port() -> int:
    """A port that nobody listens on, as far as anyone can tell."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def test_two_servers_never_choose_the_same_port(port: int) -> None:
    one, other = Ports(port, port), Ports(port, port)
    taken = one.take()

    with pytest.raises(SpawnFailed, match="is taken"):
        other.take()

    one.release(taken)
    assert other.take() == port
    other.release(port)


def test_a_port_that_somebody_listens_on_is_passed_over(port: int) -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, port))
        listener.listen()

        with pytest.raises(SpawnFailed):
            Ports(port, port).take()


def test_a_port_is_given_to_one_session_at_a_time(port: int) -> None:
    ports = Ports(port, port)
    ports.take()

    with pytest.raises(SpawnFailed):
        ports.take()

    ports.release(port)
    assert ports.take() == port
    ports.release(port)


def test_only_so_many_ports_are_tried_for_one_session() -> None:
    first = 3000
    squatted = [claimed(port) for port in range(first, first + MOST_TRIES)]
    ports = Ports(first, first + 2 * MOST_TRIES)

    with pytest.raises(SpawnFailed, match=rf"^each of {MOST_TRIES} ports tried from {first} to"):
        ports.take()

    # The next one goes on where this one gave up.
    taken = ports.take()
    assert taken >= first + MOST_TRIES
    ports.release(taken)
    for claim in filter(None, squatted):
        claim.close()
