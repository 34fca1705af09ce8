"""A difference between two reports is seen, and only what is left to chance is let be."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from tests.conformance.comparison import Outcome, bad, differences, read_report, table

FINE = Outcome("OK", "OK", 1000)
REPORT = {"1.1.1": FINE, "7.1.6": Outcome("INFORMATIONAL", "INFORMATIONAL", 1000), "10.1.1": FINE}


def with_case(case: str, **changed: object) -> dict[str, Outcome]:
    return REPORT | {case: attrs.evolve(REPORT[case], **changed)}


def test_equal_reports_do_not_differ() -> None:
    assert differences(REPORT, dict(REPORT)) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"behavior": "NON-STRICT"},
        {"behavior_close": "UNCLEAN"},
        {"close_code": None},
        {"close_reason": "bye"},
    ],
)
def test_each_part_of_an_outcome_counts(changed: dict[str, object]) -> None:
    found = differences(REPORT, with_case("1.1.1", **changed))

    assert len(found) == 1
    assert found[0].startswith("1.1.1: direct OK, closed OK with 1000; proxied ")


def test_a_case_that_one_side_lacks_differs() -> None:
    less = {case: outcome for case, outcome in REPORT.items() if case != "10.1.1"}

    assert differences(REPORT, less) == ["10.1.1: direct OK, closed OK with 1000; proxied missing"]
    assert differences(less, REPORT) == ["10.1.1: direct missing; proxied OK, closed OK with 1000"]


def test_differences_come_in_the_order_of_the_suite() -> None:
    found = differences({"9.2.1": FINE, "10.1.1": FINE, "9.10.1": FINE}, {})

    assert [line.partition(":")[0] for line in found] == ["9.2.1", "9.10.1", "10.1.1"]


def test_how_a_case_of_chance_closes_is_let_be_but_not_how_it_behaves() -> None:
    assert differences(REPORT, with_case("7.1.6", close_code=None)) == []
    assert len(differences(REPORT, with_case("7.1.6", behavior="FAILED"))) == 1


def test_a_case_of_chance_must_have_run() -> None:
    assert len(differences(REPORT, {"1.1.1": FINE, "10.1.1": FINE})) == 1


def test_a_peer_that_broke_the_protocol_is_seen() -> None:
    unclean = with_case("1.1.1", behavior_close="UNCLEAN")
    failed = with_case("1.1.1", behavior="FAILED")

    assert bad(REPORT) == []
    assert bad(unclean) == ["1.1.1: OK, closed UNCLEAN with 1000"]
    assert bad(failed) == ["1.1.1: FAILED, closed OK with 1000"]


def test_the_table_counts_what_is_equal_by_group() -> None:
    lines = table(REPORT, with_case("10.1.1", close_reason="bye")).splitlines()

    assert lines[2:] == [
        "| 1 framing | 1 | 1 | 1 x OK, OK |",
        "| 7 closing | 1 | 1 | 1 x INFORMATIONAL, INFORMATIONAL |",
        "| 10 automatic fragmentation | 1 | 0 | 1 x OK, OK |",
        "| all | 3 | 2 | 1 x INFORMATIONAL, INFORMATIONAL; 2 x OK, OK |",
    ]


def test_a_report_is_read_as_the_suite_writes_it(tmp_path: Path) -> None:
    told = {"behavior": "OK", "behaviorClose": "UNCLEAN", "remoteCloseCode": 1002}
    told["remoteCloseReason"] = "no"
    (tmp_path / "index.json").write_text(
        json.dumps({"direct": {"1.1.1": {"reportfile": "case.json"}}, "proxied": {}})
    )
    (tmp_path / "case.json").write_text(json.dumps(told))

    assert read_report(tmp_path, "direct") == {"1.1.1": Outcome("OK", "UNCLEAN", 1002, "no")}
    assert read_report(tmp_path, "proxied") == {}
