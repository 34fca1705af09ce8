"""What shuts containers in, and what an app has otherwise."""

from plane_tx.core.hardening import Hardening, HardeningChange


def test_every_container_is_shut_in_unless_something_else_is_said() -> None:
    assert Hardening() == Hardening(
        cap_drop=("ALL",),
        no_new_privileges=True,
        pids_limit=512,
        swap=False,
        init=True,
        log_max_bytes=10 * 1024 * 1024,
        log_files=3,
    )


def test_a_change_is_of_what_it_names_only() -> None:
    changed = HardeningChange(no_new_privileges=False, cap_drop=()).of(Hardening(pids_limit=7))

    assert changed == Hardening(cap_drop=(), no_new_privileges=False, pids_limit=7)


def test_no_change_is_none() -> None:
    assert HardeningChange().of(Hardening(init=False)) == Hardening(init=False)
