"""What is wrong, kept over time: symptoms seen in each scan become findings that open, worsen and close.

Pure: no clock, socket, file or logger. A scan says what it sees; the book says what is new.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Collection, Iterable

import msgspec

from kloros.units import US_PER_S

MAX_OPEN_FINDINGS = 10_000
# One look that misses a symptom may be an unlucky moment; the second one counts.
ABSENT_SCANS_TO_CLOSE = 2
DEFAULT_CLEAR_AFTER_S = 5.0
OVERFLOW_CLEAR_AFTER_S = 600.0
OVERFLOW_SCANNER = "findings"

Evidence = dict[str, str | int | float | bool]


class Severity(enum.IntEnum):
    """How much a finding matters; comparable."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        """As people and the bus read it."""
        return self.name.lower()


class Symptom(msgspec.Struct, frozen=True, kw_only=True):
    """One thing seen wrong in one scan.

    gap_type, gap_name: the identity. summary: one line for a person: what, where, how bad.
    clear_after_s: how long it must stay away before its finding closes. An event (a journal error) has a long one: it
    is over when it has been quiet for so long.
    sustains: between the threshold that opens and the one that closes: keeps an open finding open, opens none.
    covered_by: a scanner that tells the same better; heard only while that one is blind.
    """

    gap_type: str
    gap_name: str
    scanner: str
    severity: Severity
    summary: str
    evidence: Evidence = {}
    clear_after_s: float = DEFAULT_CLEAR_AFTER_S
    occurrences: int = 1
    sustains: bool = False
    covered_by: str | None = None


class Finding(msgspec.Struct, kw_only=True):
    """Something wrong and not over yet. `severity` is the worst announced so far."""

    gap_id: str
    gap_type: str
    gap_name: str
    scanner: str
    severity: Severity
    summary: str
    evidence: Evidence
    first_seen_us: int
    last_seen_us: int
    clear_after_s: float
    occurrences: int
    absent_scans: int = 0


class Opened(msgspec.Struct, frozen=True):
    """A finding that was not there before."""

    finding: Finding


class Worsened(msgspec.Struct, frozen=True):
    """A finding more severe than it was ever announced; `was` is what had been announced."""

    finding: Finding
    was: Severity


class Closed(msgspec.Struct, frozen=True):
    """A finding that ended."""

    finding: Finding
    lasted_s: float


Change = Opened | Worsened | Closed


class BookSnapshot(msgspec.Struct, kw_only=True):
    """Everything a FindingBook must remember."""

    findings: list[Finding] = []
    refused_total: int = 0


def gap_id(gap_type: str, gap_name: str) -> str:
    """The stable identity of a finding: the same on every machine and in every run."""
    return hashlib.sha256(f"{gap_type}\0{gap_name}".encode()).hexdigest()[:16]


class FindingBook:
    """The open findings. `observe` is fed once per cycle and returns what must be announced, each exactly once.

    A finding closes when its own scanner looked at least twice and did not see it, for `clear_after_s`; a scanner that
    could not look closes nothing. Severity only counts upwards while a finding is open, so that a value which wavers
    between two levels is announced once per level.
    """

    def __init__(self, snapshot: BookSnapshot | None = None, max_open: int = MAX_OPEN_FINDINGS) -> None:
        self._max_open = max_open
        self._open = {finding.gap_id: finding for finding in snapshot.findings} if snapshot else {}
        self.refused_total = snapshot.refused_total if snapshot else 0

    def __len__(self) -> int:
        return len(self._open)

    def open_findings(self) -> list[Finding]:
        """The open findings, worst first, then oldest."""
        return sorted(self._open.values(), key=lambda finding: (-finding.severity, finding.first_seen_us))

    def scanners(self) -> set[str]:
        """The scanners that have something open."""
        return {finding.scanner for finding in self._open.values()}

    def snapshot(self) -> BookSnapshot:
        """A copy to keep; a book restored from it announces nothing anew."""
        findings = [msgspec.structs.replace(finding) for finding in self._open.values()]
        return BookSnapshot(findings=findings, refused_total=self.refused_total)

    def observe(self, symptoms: Iterable[Symptom], scanned: Collection[str], now_us: int) -> list[Change]:
        """Take what the scanners named in `scanned` saw at `now_us` (wall microseconds)."""
        changes: list[Change] = []
        refused = 0
        seen: set[str] = set()
        for symptom in _worst_of_each(symptoms):
            identity = gap_id(symptom.gap_type, symptom.gap_name)
            finding = self._open.get(identity)
            if finding is not None:
                seen.add(identity)
                changes += _refresh(finding, symptom, now_us)
            elif symptom.sustains:
                continue
            elif len(self._open) >= self._max_open:
                refused += 1
            else:
                seen.add(identity)
                changes.append(Opened(self._enter(identity, symptom, now_us)))
        changes += self._overflow(refused, seen, now_us)
        return changes + self._close_what_ended(seen, {*scanned, OVERFLOW_SCANNER}, now_us)

    def _enter(self, identity: str, symptom: Symptom, now_us: int) -> Finding:
        finding = Finding(
            gap_id=identity,
            gap_type=symptom.gap_type,
            gap_name=symptom.gap_name,
            scanner=symptom.scanner,
            severity=symptom.severity,
            summary=symptom.summary,
            evidence=symptom.evidence,
            first_seen_us=now_us,
            last_seen_us=now_us,
            clear_after_s=symptom.clear_after_s,
            occurrences=symptom.occurrences,
        )
        self._open[identity] = finding
        return finding

    def _overflow(self, refused: int, seen: set[str], now_us: int) -> list[Change]:
        """A full book is itself a finding; it has a place of its own."""
        if not refused:
            return []
        self.refused_total += refused
        symptom = Symptom(
            gap_type="introspection_overflow",
            gap_name="open findings",
            scanner=OVERFLOW_SCANNER,
            severity=Severity.HIGH,
            summary=f"more than {self._max_open} findings are open; further ones are counted and refused",
            evidence={"limit": self._max_open, "refused_total": self.refused_total},
            clear_after_s=OVERFLOW_CLEAR_AFTER_S,
            occurrences=refused,
        )
        identity = gap_id(symptom.gap_type, symptom.gap_name)
        seen.add(identity)
        if (finding := self._open.get(identity)) is not None:
            return _refresh(finding, symptom, now_us)
        return [Opened(self._enter(identity, symptom, now_us))]

    def _close_what_ended(self, seen: set[str], scanned: Collection[str], now_us: int) -> list[Change]:
        ended = []
        for identity, finding in self._open.items():
            if identity in seen or finding.scanner not in scanned:
                continue
            finding.absent_scans += 1
            # A clock that stepped backwards must not keep a finding open for as long as the step.
            finding.last_seen_us = min(finding.last_seen_us, now_us)
            quiet_us = now_us - finding.last_seen_us
            if finding.absent_scans >= ABSENT_SCANS_TO_CLOSE and quiet_us >= finding.clear_after_s * US_PER_S:
                ended.append(finding)
        for finding in ended:
            del self._open[finding.gap_id]
        return [Closed(finding, max(0.0, (now_us - finding.first_seen_us) / US_PER_S)) for finding in ended]


def _worst_of_each(symptoms: Iterable[Symptom]) -> list[Symptom]:
    """One symptom per identity: two that share one are the same trouble, seen twice."""
    worst: dict[tuple[str, str], Symptom] = {}
    for symptom in symptoms:
        identity = (symptom.gap_type, symptom.gap_name)
        known = worst.get(identity)
        if known is None or (known.sustains, -known.severity) > (symptom.sustains, -symptom.severity):
            worst[identity] = symptom
    return list(worst.values())


def _refresh(finding: Finding, symptom: Symptom, now_us: int) -> list[Change]:
    """Bring an open finding up to date."""
    finding.last_seen_us = now_us
    finding.absent_scans = 0
    if symptom.sustains:
        return []
    finding.scanner = symptom.scanner
    finding.clear_after_s = symptom.clear_after_s
    finding.occurrences += symptom.occurrences
    finding.evidence = symptom.evidence
    finding.summary = symptom.summary
    if symptom.severity <= finding.severity:
        return []
    was, finding.severity = finding.severity, symptom.severity
    return [Worsened(finding, was)]
