"""Two reports of the Autobahn Testsuite side by side: what differs, and a table of the rest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import attrs

#: Cases whose end is left to chance. 7.1.6 sends much, a Close and then a Ping: if that comes while
#: the server closes, its kernel resets the connection and takes back what it has not sent yet, be
#: there a proxy or not. The suite calls the outcome INFORMATIONAL.
ANY_CLOSE = frozenset({"7.1.6"})

#: What the suite calls the behaviour of a peer that keeps to RFC 6455, or may do as it did.
GOOD = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})

#: The suite's groups; there is no 8 and no 11.
GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits and performance",
    "10": "automatic fragmentation",
    "12": "compression: payloads",
    "13": "compression: parameters",
}


@attrs.frozen
class Outcome:
    """How one case went, in the suite's own words."""

    behavior: str
    behavior_close: str
    close_code: int | None
    close_reason: str | None = None

    def __str__(self) -> str:
        reason = f" {self.close_reason!r}" if self.close_reason else ""
        return f"{self.behavior}, closed {self.behavior_close} with {self.close_code}{reason}"


Report = Mapping[str, Outcome]


def read_report(folder: Path, agent: str) -> Report:
    """What the suite wrote into `folder` of one peer."""
    index = json.loads((folder / "index.json").read_text())
    return {case: _outcome(folder / line["reportfile"]) for case, line in index[agent].items()}


def _outcome(path: Path) -> Outcome:
    told = json.loads(path.read_text())
    return Outcome(
        told["behavior"], told["behaviorClose"], told["remoteCloseCode"], told["remoteCloseReason"]
    )


def number(case: str) -> tuple[int, ...]:
    """What cases are sorted by: 9.2.1 comes before 10.1.1."""
    return tuple(map(int, case.split(".")))


def equal(case: str, direct: Report, proxied: Report) -> bool:
    """Whether this case was run on both sides, and went as well on both."""
    ours, theirs = direct.get(case), proxied.get(case)
    if ours is None or theirs is None:
        return False
    if case in ANY_CLOSE:
        theirs = attrs.evolve(theirs, close_code=ours.close_code, close_reason=ours.close_reason)
    return ours == theirs


def differences(direct: Report, proxied: Report) -> list[str]:
    """A line for each case that went otherwise through the proxy, or on one side only."""
    return [
        f"{case}: direct {direct.get(case, 'missing')}; proxied {proxied.get(case, 'missing')}"
        for case in sorted({*direct, *proxied}, key=number)
        if not equal(case, direct, proxied)
    ]


def bad(report: Report) -> list[str]:
    """A line for each case whose peer broke the protocol."""
    return [
        f"{case}: {outcome}"
        for case, outcome in report.items()
        if not {outcome.behavior, outcome.behavior_close} <= GOOD
    ]


def table(direct: Report, proxied: Report) -> str:
    """In Markdown: for each group its cases, how many were equal, and how they went."""
    lines = [
        "| group | cases | equal | behaviour, close behaviour |",
        "| --- | ---: | ---: | --- |",
    ]
    cases = sorted({*direct, *proxied}, key=number)
    groups = [
        (str(group), list(each)) for group, each in groupby(cases, lambda case: number(case)[0])
    ]
    for group, each in [*groups, ("all", cases)]:
        same = sum(equal(case, direct, proxied) for case in each)
        name = f"{group} {GROUPS.get(group, '')}".strip()
        lines.append(f"| {name} | {len(each)} | {same} | {_behaviours(direct, each)} |")
    return "\n".join(lines)


def _behaviours(report: Report, cases: list[str]) -> str:
    outcomes = (report[case] for case in cases if case in report)
    counted = Counter(f"{each.behavior}, {each.behavior_close}" for each in outcomes)
    return "; ".join(f"{count} x {how}" for how, count in sorted(counted.items()))
