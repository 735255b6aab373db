"""What the doctor says: findings with what, why and what to do, as text, as JSON, and as an exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """good: looked at, and right. unknown: looked at, and the data cannot tell. warning: it costs quality, or may.
    error: what was recorded cannot teach, or teaches wrong things."""

    GOOD = 0
    UNKNOWN = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True)
class Finding:
    """One line. check: what was looked at, a stable name for scripts; subject: topic or frame; what was found, why it
    matters, and what to do ("" for what is good). figures: the numbers behind it."""

    severity: Severity
    check: str
    subject: str
    what: str
    why: str = ""
    do: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.severity.name:<7}  {self.subject}: {self.what}"]
        lines += [f"         why: {self.why}"] if self.why else []
        lines += [f"         do:  {self.do}"] if self.do else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """All findings on one bag, the worst first."""

    subject: str
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, subject: str, findings: Iterable[Finding]) -> Report:
        """Sorted; findings of one severity stay in their order."""
        return cls(subject, tuple(sorted(findings, key=lambda finding: -finding.severity)))

    @property
    def worst(self) -> Severity:
        """Of all findings."""
        return max((finding.severity for finding in self.findings), default=Severity.GOOD)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What forbids to learn from the bag."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def exit_code(self) -> int:
        """0: nothing worse than unknown; 1: warnings; 3: errors. (2 is that of a command that could not run.)"""
        return {Severity.WARNING: 1, Severity.ERROR: 3}.get(self.worst, 0)

    def to_json(self) -> str:
        """One object: subject, worst, exit_code, findings."""
        findings = [{**asdict(finding), "severity": finding.severity.name.lower()} for finding in self.findings]
        head = {"subject": self.subject, "worst": self.worst.name.lower(), "exit_code": self.exit_code}
        return json.dumps({**head, "findings": findings}, indent=2)

    def __str__(self) -> str:
        counts = {level: sum(finding.severity is level for finding in self.findings) for level in reversed(Severity)}
        summary = ", ".join(f"{count} {level.name.lower()}" for level, count in counts.items() if count)
        return "\n".join([f"{self.subject}: {summary or 'nothing to look at'}", *map(str, self.findings)])
