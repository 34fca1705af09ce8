"""The user that sessions run as: one that is there, that is not root, and only if we are."""

import os
import pwd

import pytest

from plane_tx.core.errors import ConfigError
from plane_tx.engines import users
from plane_tx.engines.users import User, user_named


@pytest.fixture
def as_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_a_user_is_known_with_all_its_groups(as_root):
    found = pwd.getpwnam("nobody")

    known = user_named("nobody")

    groups = tuple(os.getgrouplist("nobody", found.pw_gid))
    assert known == User("nobody", found.pw_dir, found.pw_uid, found.pw_gid, groups)


@pytest.mark.parametrize(
    ("name", "why"), [("no-such-user", "no user 'no-such-user' on this box"), ("root", "is root")]
)
def test_who_is_nobody_here_or_root_stops_the_start(as_root, name, why):
    with pytest.raises(ConfigError, match=rf"^\[engine\] process_user: .*{why}"):
        user_named(name)


def test_only_root_may_choose(monkeypatch):
    monkeypatch.setattr(users.os, "geteuid", lambda: 1000)

    with pytest.raises(ConfigError, match="only a server that root started may"):
        user_named("nobody")
