"""What a container cannot have is refused by its field, before any engine hears of it."""

from __future__ import annotations

from typing import Any

import pytest

from plane_tx.core.containers import (
    ContainerFields,
    VolumeRequest,
    check_container,
    gpus_or_all,
)
from plane_tx.core.errors import InvalidRequest


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tmpfs": {"/tmp": "", "/run/app": "rw,noexec,nosuid,nodev,size=64m,mode=1777,uid=7"}},
        {"volumes": (VolumeRequest("a-b_c.1", "/data"), VolumeRequest("x", "/d/e", True))},
        {"cap_add": ("NET_ADMIN", "CAP_SYS_PTRACE", "CHOWN", "ALL")},
        {"runtime": "io.containerd.runc.v2"},
        {"mount": True},
        {"mount": False},
        {"mount": "a"},
        {"mount": "projects/Ünïcode a b"},
        {"mount": "..a/b.."},
        {"network_name": "project_default"},
    ],
)
def test_what_a_container_can_have_is_let_be(fields: dict[str, Any]) -> None:
    assert check_container("executable", ContainerFields(**fields)) is None


@pytest.mark.parametrize(
    "name", ["", "container:other", "ns:/proc/1/ns/net", "bridge:ip=1.2.3.4", ".x", "a b", "a\n"]
)
def test_a_network_is_a_name_and_nothing_else_that_an_engine_would_understand(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^executable\.network_name: expected the name of a"):
        check_container("executable", ContainerFields(network_name=name))


PATHS = ["", "/", "x", "//x", "/x/", "/x/../y", "/./x", "/x//y", "/x\n", "/x\0", "/" + 2000 * "x"]


@pytest.mark.parametrize("path", PATHS)
def test_a_place_in_a_container_is_a_plain_absolute_path(path: str) -> None:
    for field, fields in (
        ("tmpfs", {"tmpfs": {path: ""}}),
        ("volumes[0].path", {"volumes": (VolumeRequest("v", path),)}),
    ):
        with pytest.raises(InvalidRequest) as refused:
            check_container("executable", ContainerFields(**fields))
        assert str(refused.value).startswith(f"executable.{field}: expected absolute paths below /")


@pytest.mark.parametrize("name", ["", "/etc", "..", ".x", "a/b", "a:b", "ü", "a\n", 256 * "x"])
def test_a_volume_is_a_name_and_never_a_path_of_the_host(name: str) -> None:
    asked = ContainerFields(volumes=(VolumeRequest("v", "/v"), VolumeRequest(name, "/x")))

    with pytest.raises(InvalidRequest, match=r"^executable\.volumes\[1\]\.name: expected the name"):
        check_container("executable", asked)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [("size=x", "size=x"), ("rw,", ""), ("rw,bind", "bind"), ("mode=9", "mode=9"), ("a b", "a b")],
)
def test_an_option_that_tmpfs_does_not_know_is_named(options: str, wrong: str) -> None:
    with pytest.raises(InvalidRequest, match=rf'^executable\.tmpfs: .*, got "{wrong}"$'):
        check_container("executable", ContainerFields(tmpfs={"/tmp": options}))


@pytest.mark.parametrize("name", ["", "NET", "CAP_", "CAP_ALL", "chown", "CAP_CAP_CHOWN"])
def test_a_capability_that_linux_does_not_know_is_named(name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf'^executable\.cap_add: .* got "{name}"$'):
        check_container("executable", ContainerFields(cap_add=("CHOWN", name)))


@pytest.mark.parametrize("value", [None, 0, 2, "all"])
def test_gpus_are_a_number_or_all(value: Any) -> None:
    assert gpus_or_all(value, None) == value


@pytest.mark.parametrize("value", [-1, True, 1.5, "2", "ALL", []])
def test_what_else_is_given_for_gpus_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r'^expected a whole number >= 0 or "all", got '):
        gpus_or_all(value, None)


@pytest.mark.parametrize("name", ["", "a b", "/usr/bin/runc", "a\0"])
def test_a_runtime_is_a_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^executable\.runtime: expected the name"):
        check_container("executable", ContainerFields(runtime=name))


@pytest.mark.parametrize(
    "mount",
    [
        "", ".", "..", "../x", "/x", "./x", "x/", "x//y", "hide/under/../../../escape", "x/.", "\0",
        "a\nb", 2000 * "x",
    ],
)  # fmt: skip
def test_a_mount_that_is_no_plain_relative_path_is_refused(mount: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^executable\.mount: expected true, or a relative"):
        check_container("executable", ContainerFields(mount=mount))
