"""The bus's own health, from the signals that pass: silent daemons, failing or slow cycles, losses, fallbacks."""

from __future__ import annotations

import threading
from typing import Annotated

import msgspec
from msgspec import Meta

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, DropFacts, FallbackFacts, GapFacts, HeartbeatFacts
from kloros.chembus.signals import HEARTBEAT_DEADLINE_S
from kloros.consumers.introspection.findings import DEFAULT_CLEAR_AFTER_S, Evidence, Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.thresholds import Positive, ScannerSettings

HEARD = (
    "HEARTBEAT",
    "Q_CYCLE_REPORT",
    "BUS_GAP",
    "BUS_DROP",
    "FALLBACK_ENGAGED",
    "FALLBACK_RELEASED",
    "Q_SCHEDULE_TICK",
)
MAX_DAEMONS = 1_000
MAX_LOSSES = 1_000
# After a restart every daemon's next heartbeat is up to 10 s away, and a silent one is only known as such after
# silent_after_s: what was open before must outlast that.
_CLEAR_MARGIN_S = 30.0
_LOSSES_QUIET_S = 600.0
_MANY_LOST = 1_000


class BusHealthSettings(ScannerSettings, frozen=True):
    """silent_after_s: three missed heartbeats of 10 s. forget_after_s: a daemon gone for so long is no longer missed.

    failing_after, slow_after: so many cycles in a row that failed, or overran their budget.
    """

    silent_after_s: Positive = HEARTBEAT_DEADLINE_S
    forget_after_s: Positive = 86_400.0
    failing_after: Annotated[int, Meta(ge=1)] = 2
    slow_after: Annotated[int, Meta(ge=1)] = 3


class DaemonState(msgspec.Struct):
    """What is known of one daemon. heard_s is monotonic; heard_us wall time, for after a restart."""

    heard_us: int
    heard_s: float = 0.0
    niche: str = ""
    fallback: bool = False
    failures: int = 0
    overruns: int = 0
    error: str = ""
    duration_s: float = 0.0


class BusHealthScanner:
    """Fed by `hear` from the daemon's loop, asked by `scan` from the cycle."""

    name = "bus_health"

    def __init__(self, settings: BusHealthSettings) -> None:
        self.timeout_s = settings.timeout_s
        self._settings = settings
        self._lock = threading.Lock()
        self._daemons: dict[str, DaemonState] = {}
        self._losses: dict[tuple[str, str, str], int] = {}
        self._heard_s: float | None = None
        self._is_recalled = False

    def keepsake(self) -> str:
        with self._lock:
            return msgspec.json.encode(self._daemons).decode()

    def recall(self, keepsake: str) -> None:
        try:
            self._daemons = msgspec.json.decode(keepsake, type=dict[str, DaemonState])
        except msgspec.DecodeError:
            return
        self._is_recalled = True

    def hear(self, message: Message, now: Now) -> None:
        """Take one of the signals in HEARD."""
        with self._lock:
            self._note_outage(now)
            facts = message.facts
            if isinstance(facts, HeartbeatFacts):
                self._on_heartbeat(facts, now)
            elif isinstance(facts, CycleReportFacts):
                self._on_report(facts, now)
            elif isinstance(facts, FallbackFacts):
                if (daemon := self._daemon(facts.daemon, now)) is not None:
                    daemon.fallback = message.signal == "FALLBACK_ENGAGED"
            elif isinstance(facts, GapFacts):
                self._lose("gap", facts.observer, facts.signal, facts.missing)
            elif isinstance(facts, DropFacts):
                self._lose("drop", facts.observer, facts.signal, facts.dropped)

    def scan(self, now: Now) -> list[Symptom]:
        with self._lock:
            self._give_grace_after_restart(now)
            self._forget_the_long_gone(now)
            losses, self._losses = self._losses, {}
            symptoms = [self._lost(*what, count) for what, count in losses.items()]
            for zooid, daemon in self._daemons.items():
                symptoms += self._judge(zooid, daemon)
            return symptoms + self._judge_bus(now)

    # Hearing

    def _on_heartbeat(self, facts: HeartbeatFacts, now: Now) -> None:
        if facts.mode == "stopped":
            self._daemons.pop(facts.zooid, None)
        elif (daemon := self._daemon(facts.zooid, now)) is not None:
            daemon.niche = facts.niche
            daemon.fallback = facts.mode == "fallback"

    def _on_report(self, facts: CycleReportFacts, now: Now) -> None:
        daemon = self._daemon(facts.daemon, now)
        if daemon is None:
            return
        daemon.duration_s = facts.duration_s
        daemon.error = (facts.error or facts.outcome)[:200]
        daemon.failures = daemon.failures + 1 if facts.outcome in ("failed", "hung") else 0
        daemon.overruns = daemon.overruns + 1 if facts.outcome == "over_budget" else 0

    def _daemon(self, zooid: str, now: Now) -> DaemonState | None:
        """The daemon that was just heard; None when there are too many to know another."""
        daemon = self._daemons.get(zooid)
        if daemon is None:
            if len(self._daemons) >= MAX_DAEMONS:
                return None
            daemon = self._daemons[zooid] = DaemonState(now.wall_us)
        daemon.heard_us, daemon.heard_s = now.wall_us, now.monotonic_s
        return daemon

    def _lose(self, kind: str, observer: str, signal: str, count: int) -> None:
        what = (kind, observer, signal)
        if what in self._losses or len(self._losses) < MAX_LOSSES:
            self._losses[what] = self._losses.get(what, 0) + count

    def _note_outage(self, now: Now) -> None:
        """When nothing at all was heard for a while, the bus was away, not the daemons: each gets its time anew."""
        if self._heard_s is not None and now.monotonic_s - self._heard_s > self._settings.silent_after_s / 2:
            for daemon in self._daemons.values():
                daemon.heard_s = now.monotonic_s
        self._heard_s = now.monotonic_s

    def _give_grace_after_restart(self, now: Now) -> None:
        if self._is_recalled:
            self._is_recalled = False
            for daemon in self._daemons.values():
                daemon.heard_s = now.monotonic_s
        if self._heard_s is None:
            self._heard_s = now.monotonic_s

    def _forget_the_long_gone(self, now: Now) -> None:
        oldest_us = now.wall_us - self._settings.forget_after_s * 1_000_000
        self._daemons = {zooid: daemon for zooid, daemon in self._daemons.items() if daemon.heard_us >= oldest_us}

    # Judging

    def _judge(self, zooid: str, daemon: DaemonState) -> list[Symptom]:
        symptoms: list[Symptom] = []
        # Counted to the last message of anybody: while the bus is away nobody is silent.
        silent_s = (self._heard_s or 0.0) - daemon.heard_s
        if silent_s > self._settings.silent_after_s:
            summary = f"{zooid} has not been heard for {silent_s:.0f} s"
            evidence: Evidence = {"silent_s": round(silent_s)}
            symptoms.append(self._symptom("daemon_silent", zooid, Severity.HIGH, summary, evidence))
        if daemon.failures:
            summary = f"{zooid} failed {daemon.failures} cycles in a row: {daemon.error}"
            evidence = {"failures": daemon.failures, "error": daemon.error}
            few = daemon.failures < self._settings.failing_after
            symptoms.append(self._symptom("cycles_failing", zooid, Severity.HIGH, summary, evidence, sustains=few))
        if daemon.overruns:
            summary = (
                f"{zooid} overran its budget {daemon.overruns} times in a row, lately with {daemon.duration_s:.1f} s"
            )
            evidence = {"overruns": daemon.overruns, "duration_s": round(daemon.duration_s, 3)}
            few = daemon.overruns < self._settings.slow_after
            symptoms.append(self._symptom("cycles_slow", zooid, Severity.MEDIUM, summary, evidence, sustains=few))
        if daemon.fallback:
            summary = f"{zooid} hears no triggers and works on its own clock"
            symptoms.append(self._symptom("fallback_engaged", zooid, Severity.MEDIUM, summary, {}))
        return symptoms

    def _judge_bus(self, now: Now) -> list[Symptom]:
        quiet_s = now.monotonic_s - (self._heard_s if self._heard_s is not None else now.monotonic_s)
        if quiet_s <= self._settings.silent_after_s:
            return []
        summary = f"nothing at all has been heard on the bus for {quiet_s:.0f} s"
        return [self._symptom("bus_silent", "chembus", Severity.HIGH, summary, {"silent_s": round(quiet_s)})]

    def _lost(self, kind: str, observer: str, signal: str, count: int) -> Symptom:
        what = "missed" if kind == "gap" else "dropped from its full queue"
        severity = Severity.MEDIUM if count >= _MANY_LOST else Severity.LOW
        summary = f"{observer} {what} {count} of {signal}"
        evidence: Evidence = {"observer": observer, "signal": signal, "count": count}
        name = f"{observer}: {signal}"
        return self._symptom(f"bus_{kind}", name, severity, summary, evidence, _LOSSES_QUIET_S, occurrences=count)

    def _symptom(
        self,
        gap_type: str,
        gap_name: str,
        severity: Severity,
        summary: str,
        evidence: Evidence,
        clear_after_s: float = DEFAULT_CLEAR_AFTER_S,
        *,
        sustains: bool = False,
        occurrences: int = 1,
    ) -> Symptom:
        return Symptom(
            gap_type=gap_type,
            gap_name=gap_name,
            scanner=self.name,
            severity=severity,
            summary=summary,
            evidence=evidence,
            clear_after_s=clear_after_s,
            sustains=sustains,
            occurrences=occurrences,
        )
