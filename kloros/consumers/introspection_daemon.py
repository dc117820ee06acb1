"""introspection: notices what is wrong with this machine and says so once."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.facts import HeartbeatFacts
from kloros.chembus.facts_work import GapFoundFacts
from kloros.config import load_or_default
from kloros.consumers.introspection.findings import (
    BookSnapshot,
    Change,
    Closed,
    Evidence,
    Finding,
    FindingBook,
    Opened,
    Severity,
    Symptom,
)
from kloros.consumers.introspection.scanners.base import Now, Remembers, Scanner
from kloros.consumers.introspection.scanners.bus_health import HEARD, BusHealthScanner
from kloros.consumers.introspection.scanners.pool import ScannerPool, Sighting
from kloros.consumers.introspection.scanners.registry import IntrospectionSettings, built_in, from_other_packages
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import ConfigError
from kloros.units import us_to_seconds

# What a scanner cannot see is told by the pool of scanners itself, which always can.
POOL = "scanners"
# The moment a finding was last seen is not worth a write every cycle; a restart may forget this much of it.
SAVE_AT_LEAST_EVERY_S = 60.0


class IntrospectionDaemon(Consumer):
    """Scans, keeps the findings, announces what opens, worsens and ends."""

    zooid = "introspection_daemon"
    niche = "introspection"
    ecosystem = "introspection"
    schedule = "introspection_scan"
    signal = "Q_TRIGGER_INTROSPECTION"
    interval_s = 5.0
    hears = HEARD

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._settings = self._load_settings()
        self._new_settings: IntrospectionSettings | None = None
        self._blind: tuple[str, ...] = ()
        self._open_count = 0
        self._keepsakes: dict[str, str] = {}
        self._saved_s: float | None = None
        self._book = FindingBook()
        self._start_scanners()
        self._remember_what_was_saved()
        gauge = self.metrics.gauge("kloros_findings_open", "Findings that are open.")
        gauge.set_function(lambda: float(self._open_count))
        self._changes = self.metrics.counter("kloros_findings_total", "Changes of findings.", ("change",))

    # The cycle

    def cycle(self, cycle: Cycle) -> None:
        if self._new_settings is not None:
            self._take_new_settings(self._new_settings)
        try:
            self._cycle(cycle)
        except BaseException:
            self._remember_what_was_saved()  # nothing of a failed cycle leaves, so nothing of it may be remembered
            raise

    def _cycle(self, cycle: Cycle) -> None:
        now = self._now()
        sightings = self._pool.scan(now)
        changes = self._observe(sightings, now)
        for change in changes:
            self._announce(change, cycle)
        self._save(cycle, sightings, bool(changes), now)
        cycle.processed = sum(sighting.lack is None for sighting in sightings)
        self._open_count = len(self._book)
        self._blind = tuple(sighting.scanner for sighting in sightings if sighting.lack is not None)

    def _observe(self, sightings: list[Sighting], now: Now) -> list[Change]:
        looked = {sighting.scanner for sighting in sightings if sighting.lack is None}
        symptoms = [
            symptom
            for sighting in sightings
            for symptom in (*sighting.symptoms, *_lacks(sighting))
            if symptom.covered_by not in looked
        ]
        retired = self._book.scanners() - {scanner.name for scanner in self._scanners}
        return self._book.observe(symptoms, looked | retired | {POOL}, now.wall_us)

    def _announce(self, change: Change, cycle: Cycle) -> None:
        finding = change.finding
        told = {
            "severity": finding.severity.word,
            "gap": finding.gap_type,
            "name": finding.gap_name,
            "gap_id": finding.gap_id,
        }
        if isinstance(change, Closed):
            cycle.emit("CAPABILITY_RESTORED", _facts(finding, "restored", change.lasted_s), incident_id=finding.gap_id)
            self.log.info("gap_closed", summary=f"over: {finding.summary}", lasted_s=round(change.lasted_s, 1), **told)
            self._changes.labels("closed").inc()
        elif isinstance(change, Opened):
            cycle.emit("CAPABILITY_GAP", _facts(finding, "opened"), incident_id=finding.gap_id)
            self.log.warning("gap_opened", summary=finding.summary, **told)
            self._changes.labels("opened").inc()
        else:
            cycle.emit("CAPABILITY_GAP", _facts(finding, "worsened"), incident_id=finding.gap_id)
            self.log.warning("gap_worsened", summary=finding.summary, was=change.was.word, **told)
            self._changes.labels("worsened").inc()

    def _save(self, cycle: Cycle, sightings: Iterable[Sighting], is_changed: bool, now: Now) -> None:
        """What was observed and where each scanner goes on belong together: both leave with the signals, or neither."""
        busy = {sighting.scanner for sighting in sightings if sighting.hung}
        kept = self._keepsakes | {
            scanner.name: scanner.keepsake()
            for scanner in self._scanners
            if isinstance(scanner, Remembers) and scanner.name not in busy
        }
        if kept != self._keepsakes:
            self._keepsakes = kept
            cycle.save("keepsakes", kept)
        is_due = self._saved_s is None or now.monotonic_s - self._saved_s >= SAVE_AT_LEAST_EVERY_S
        if is_changed or is_due:
            self._saved_s = now.monotonic_s
            cycle.save("findings", self._book.snapshot())

    def _remember_what_was_saved(self) -> None:
        self._book = FindingBook(self.store.get("findings", BookSnapshot))
        self._open_count = len(self._book)
        self._keepsakes = self.store.get("keepsakes", dict[str, str]) or {}
        for scanner in self._scanners:
            if isinstance(scanner, Remembers) and scanner.name in self._keepsakes:
                scanner.recall(self._keepsakes[scanner.name])

    # Hearing and telling

    def on_signal(self, message: Message) -> None:
        if self._bus_health is not None:
            self._bus_health.hear(message, self._now())

    def status(self) -> str:
        blind = f", blind: {' '.join(self._blind)}" if self._blind else ""
        return f"{super().status()}, {self._open_count} findings open{blind}"

    def heartbeat_facts(self) -> HeartbeatFacts:
        facts = super().heartbeat_facts()
        if self._blind and not facts.detail:
            facts.detail = f"blind: {' '.join(self._blind)}"
        return facts

    def on_stop(self) -> None:
        super().on_stop()
        self._pool.close()

    # Settings

    def on_reload(self) -> None:
        try:
            self._new_settings = self._load_settings()
        except ConfigError as error:
            self.log.error("settings_refused", reason=str(error))
        else:
            self.log.info("settings_reloaded")

    def _load_settings(self) -> IntrospectionSettings:
        return load_or_default(settings_file(self.place, stem_of(type(self))), IntrospectionSettings)

    def _take_new_settings(self, settings: IntrospectionSettings) -> None:
        self._settings, self._new_settings = settings, None
        self._pool.close()
        self._start_scanners()
        self._remember_what_was_saved()

    def make_scanners(self, settings: IntrospectionSettings) -> list[Scanner]:
        """The scanners to use from now on."""
        scanners = list(built_in(settings, self._now()))
        return scanners + self._scanners_of_others(scanners) if settings.others else scanners

    def _start_scanners(self) -> None:
        self._scanners = self.make_scanners(self._settings)
        self._bus_health = next((each for each in self._scanners if isinstance(each, BusHealthScanner)), None)
        self._pool = ScannerPool(self._scanners)

    def _scanners_of_others(self, known: list[Scanner]) -> list[Scanner]:
        taken = {scanner.name for scanner in known} | {POOL}
        added: list[Scanner] = []
        for name, scanner in from_other_packages():
            if isinstance(scanner, Exception):
                self.log.error("scanner_refused", scanner=name, reason=f"{type(scanner).__name__}: {scanner}")
            elif scanner.name in taken:
                self.log.error("scanner_refused", scanner=name, reason=f"there is already a scanner {scanner.name}")
            else:
                taken.add(scanner.name)
                added.append(scanner)
        return added

    def _now(self) -> Now:
        return Now(self.clock.wall_us(), self.clock.monotonic_s())


def _lacks(sighting: Sighting) -> list[Symptom]:
    """A scanner that cannot look is itself a finding: something is not being watched."""
    if sighting.lack is None:
        return []
    evidence: Evidence = {"scanner": sighting.scanner, "reason": sighting.lack}
    return [
        Symptom(
            gap_type="scanner_blind",
            gap_name=sighting.scanner,
            scanner=POOL,
            severity=Severity.MEDIUM if sighting.hung else Severity.LOW,
            summary=f"cannot watch {sighting.scanner}: {sighting.lack}",
            evidence=evidence,
        )
    ]


def _facts(finding: Finding, change: str, lasted_s: float | None = None) -> GapFoundFacts:
    return msgspec.convert(
        {
            "gap_id": finding.gap_id,
            "gap_type": finding.gap_type,
            "gap_name": finding.gap_name,
            "severity": finding.severity.word,
            "evidence": [f"{name}={value}" for name, value in finding.evidence.items()],
            "first_seen_ts": us_to_seconds(finding.first_seen_us),
            "detail": finding.summary,
            "change": change,
            "duration_s": lasted_s,
        },
        GapFoundFacts,
    )


if __name__ == "__main__":
    sys.exit(main(IntrospectionDaemon))
