"""The suite sees what it is there to see."""

import pytest

from tests.chaos.docker import Contained
from tests.chaos.invariants import doubled_keys, mismatches, trouble_in, unexplained


def contained(session_id, key="default/k", state="running"):
    return Contained(f"container-of-{session_id}", session_id, key, state)


def told(status, reason=None, *before):
    history = [{"status": each} for each in before] + [{"status": status}]
    if reason is not None:
        history[-1]["termination_reason"] = reason
    return {"status": status, "status_history": history, "failure": None}


def test_two_running_containers_of_a_key_are_found():
    containers = [contained("a"), contained("b", state="paused"), contained("c", "default/l")]

    found = doubled_keys(containers)

    assert found == ["default/k"]


@pytest.mark.parametrize("state", ["created", "exited", "dead", "removing"])
def test_a_container_that_does_not_run_does_not_hold_its_key(state):
    containers = [contained("a"), contained("b", state=state)]

    found = doubled_keys(containers)

    assert found == []


@pytest.mark.parametrize("sessions", [{}, {"a": told("terminated", "idle", "ready")}])
def test_a_container_without_a_live_session_is_found(sessions):
    found = mismatches([contained("a")], sessions)

    assert found == {"a"}


@pytest.mark.parametrize("status", ["waiting", "ready"])
def test_a_session_without_its_container_is_found(status):
    found = mismatches([], {"a": told(status)})

    assert found == {"a"}


@pytest.mark.parametrize("status", ["scheduled", "loading", "starting", "terminating"])
def test_a_session_on_its_way_in_or_out_may_have_a_container_or_none(status):
    with_one = mismatches([contained("a")], {"a": told(status)})
    without = mismatches([], {"a": told(status)})

    assert with_one == without == set()


@pytest.mark.parametrize("reason", ["lost", "exited", "oom"])
def test_an_end_by_harm_that_nobody_did_is_found(reason):
    sessions = {"a": told("terminated", reason, "ready"), "b": told("terminated", reason, "ready")}

    found = unexplained(sessions, {"b"})

    assert [text.split()[0] for text in found] == ["a"]


@pytest.mark.parametrize("reason", ["external", "idle", "lifetime"])
def test_an_end_that_was_due_needs_no_harm(reason):
    found = unexplained({"a": told("terminated", reason, "ready")}, set())

    assert found == []


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "Unhandled error in X:"])
def test_an_unhandled_error_in_the_log_is_found_with_what_follows(line):
    found = trouble_in(f"all is well\n{line}\n  ValueError: of this\n")

    assert found == [f"{line}\n      ValueError: of this"]


def test_a_log_of_warnings_is_no_trouble():
    found = trouble_in("the engine is lost: Docker ended its stream of events\n")

    assert found == []
