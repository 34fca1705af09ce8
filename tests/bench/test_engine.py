"""What the Engine is told to make for the bench is what our server has had made."""

import pytest

from bench.engine import LABEL, address_of, body_like

FOUND = {
    "Config": {
        "Hostname": "0123456789ab",
        "Image": "busybox",
        "Labels": {"plane-tx.instance": "bench"},
    },
    "HostConfig": {"Memory": 1 << 20, "NetworkMode": "bridge"},
}


def test_another_container_is_just_like_the_first_but_for_whose_it_is() -> None:
    body = body_like(FOUND, "run-7")

    assert body == {
        "Image": "busybox",
        "Labels": {LABEL: "run-7"},
        "HostConfig": {"Memory": 1 << 20, "NetworkMode": "bridge"},
    }


@pytest.mark.parametrize(
    ("ports", "address"),
    [
        ({"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]}, ("127.0.0.1", 32768)),
        ({"8080/tcp": None}, ("172.17.0.2", 8080)),
        ({}, ("172.17.0.2", 8080)),
        (None, ("172.17.0.2", 8080)),
    ],
)
def test_a_container_is_reached_where_it_is_published_else_at_its_own_address(
    ports: object, address: tuple[str, int]
) -> None:
    networks = {"bridge": {"IPAddress": "172.17.0.2"}}

    assert address_of({"NetworkSettings": {"Ports": ports, "Networks": networks}}) == address
