"""New error-level journal entries, folded into templates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from kloros.consumers.introspection.findings import Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.thresholds import Positive, ScannerSettings
from kloros.consumers.introspection.templates import fold
from kloros.machine.journal_reader import Entry, JournalReader, Place
from kloros.units import US_PER_S

_MAX_TEMPLATES_PER_SOURCE = 50
_TOO_VARIED = "(many different messages)"
_SAMPLE_CHARS = 300
# What we say of findings is never a finding.
_OUR_REPORTS = ("gap_", "scanner_")


class JournalSettings(ScannerSettings, frozen=True):
    """quiet_after_s: an error that has not come again for so long is over.

    flood_lines: so many of one kind in one scan raise its severity. max_lines, max_bytes: read per scan at most.
    max_lag_s: when reading falls this far behind, it goes on at the present and says so.
    """

    timeout_s: Positive = 3.0
    quiet_after_s: Positive = 600.0
    flood_lines: Annotated[int, Meta(ge=2)] = 100
    max_lines: Annotated[int, Meta(ge=1)] = 2_000
    max_bytes: Annotated[int, Meta(ge=4096)] = 4_194_304
    max_lag_s: Positive = 60.0


class JournalScanner:
    """One finding per source and template. The first time it starts at `since`, then it goes on from where it was."""

    name = "journal"

    def __init__(self, settings: JournalSettings, since: Now, reader: JournalReader | None = None) -> None:
        self.timeout_s = settings.timeout_s
        self._settings = settings
        # journalctl is ended before the pool gives up on this scanner.
        self._reader = reader or JournalReader(settings.max_lines, settings.max_bytes, 0.8 * settings.timeout_s)
        self._place = Place(since.wall_us)

    def keepsake(self) -> str:
        return msgspec.json.encode(self._place).decode()

    def recall(self, keepsake: str) -> None:
        try:
            self._place = msgspec.json.decode(keepsake, type=Place)
        except msgspec.DecodeError:
            return

    def scan(self, now: Now) -> list[Symptom]:
        batch = self._reader.read(self._place)
        self._place = batch.place
        symptoms = [self._symptom(*group) for group in grouped(batch.entries)]
        lag_s = (now.wall_us - batch.place.after_us) / US_PER_S
        if batch.has_more and lag_s > self._settings.max_lag_s:
            self._place = Place(now.wall_us)
            symptoms.append(self._overrun(lag_s))
        return symptoms

    def _symptom(self, source: str, template: str, entries: list[Entry]) -> Symptom:
        worst = min(entry.priority for entry in entries)
        severity = Severity.CRITICAL if worst <= 1 else Severity.HIGH if worst == 2 else Severity.MEDIUM
        is_flood = len(entries) >= self._settings.flood_lines
        if is_flood:
            severity = Severity(min(severity + 1, Severity.CRITICAL))
        message = " ".join(entries[-1].message.split())[:_SAMPLE_CHARS]
        count = f"{len(entries)} times at once: " if is_flood else ""
        return Symptom(
            gap_type="journal_errors",
            gap_name=f"{source}: {template}",
            scanner=self.name,
            severity=severity,
            summary=f"{source} logs errors: {count}{message}",
            evidence={"source": source, "priority": worst, "count": len(entries), "message": message},
            clear_after_s=self._settings.quiet_after_s,
            occurrences=len(entries),
            covered_by="units" if _is_systemd_about_a_unit(entries[0]) else None,
        )

    def _overrun(self, lag_s: float) -> Symptom:
        return Symptom(
            gap_type="journal_overrun",
            gap_name="journal",
            scanner=self.name,
            severity=Severity.MEDIUM,
            summary=f"errors are logged faster than they can be read: {lag_s:.0f} s of the journal were skipped",
            evidence={"skipped_s": round(lag_s, 1)},
            clear_after_s=self._settings.quiet_after_s,
        )


def grouped(entries: Iterable[Entry]) -> list[tuple[str, str, list[Entry]]]:
    """(source, template, entries): alike ones together; a source that never says the same twice is one group."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    templates: dict[str, set[str]] = {}
    for entry in entries:
        if entry.event.startswith(_OUR_REPORTS):
            continue
        source = _source_of(entry)
        known = templates.setdefault(source, set())
        template = fold(entry.message) or "(empty message)"
        if template not in known and len(known) >= _MAX_TEMPLATES_PER_SOURCE:
            template = _TOO_VARIED
        known.add(template)
        groups.setdefault((source, template), []).append(entry)
    return [(source, template, alike) for (source, template), alike in groups.items()]


def _source_of(entry: Entry) -> str:
    """The unit it is about, or that wrote it; scopes are numbered anew each time and name nobody."""
    if _is_systemd_about_a_unit(entry):
        return entry.about_unit
    if entry.unit and not entry.unit.endswith(".scope"):
        return entry.unit
    return entry.identifier or entry.unit or "unknown"


def _is_systemd_about_a_unit(entry: Entry) -> bool:
    """systemd's own words, or those of the process it forks for a unit before it becomes the unit's own: `(daemon)`."""
    return bool(entry.about_unit) and (entry.identifier == "systemd" or entry.identifier.startswith("("))
