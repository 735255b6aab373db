"""Findings in order of severity, and what a script sees of them."""

from __future__ import annotations

import pytest

from ov3d_perception.doctor.report import Finding, Report, Severity


def finding(severity: Severity, what: str = "x") -> Finding:
    return Finding(severity, "check", "/points", what, "because", "do that")


@pytest.mark.parametrize(
    ("levels", "code"),
    [([], 0), (["GOOD"], 0), (["UNKNOWN"], 0), (["GOOD", "WARNING"], 1), (["ERROR", "WARNING"], 3)],
)
def test_exit_code_is_that_of_the_worst(levels: list[str], code: int) -> None:
    assert Report.of("bag", [finding(Severity[level]) for level in levels]).exit_code == code


def test_the_worst_come_first_and_order_is_kept() -> None:
    report = Report.of("bag", [finding(Severity.GOOD, "a"), finding(Severity.ERROR, "b"), finding(Severity.GOOD, "c")])
    assert [one.what for one in report.findings] == ["b", "a", "c"]
    assert [one.what for one in report.errors] == ["b"]
    assert str(report).splitlines()[:3] == ["bag: 1 error, 2 good", "ERROR    /points: b", "         why: because"]
