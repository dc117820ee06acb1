"""A storm of findings on a real bus, through the real chain: bounded, the best first, nothing silently dropped.

STORM_FINDINGS and STORM_S make a larger or longer one.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.suite import PROXY, SCHEDULER, Suite, suite

from kloros.consumers.curiosity.question import Reason, Tally
from kloros.consumers.introspection.findings import gap_id
from kloros.storage.snapshot import Snapshot, snapshot

FINDINGS = int(os.environ.get("STORM_FINDINGS", "5000"))
STORM_S = float(os.environ.get("STORM_S", "25"))  # in a minute it is to stand them; this is harder
SETTLE_LIMIT_S = 60.0
SLICES = 100
MOST_MIB = 200.0  # units may have 256 MB
CURIOSITY, DEDUP, INVESTIGATION, ACTION, DECAY = CHAIN = (
    "curiosity_core_consumer", "semantic_dedup_consumer", "investigation_consumer", "action_consumer", "decay",
)  # fmt: skip
OTHERS = ("chembus_historian", "ledger_writer")
BEATS_S = {
    "curiosity_generation": ("CURIOSITY", 1.0), "semantic_dedup": ("SEMANTIC_DEDUP", 1.0),
    "investigation_processing": ("INVESTIGATION", 2.0), "action_processing": ("ACTION_PROCESSING", 2.0),
    "memory_decay": ("DECAY", 20.0), "ledger_flush": ("LEDGER_FLUSH", 10.0),
    "history_rotate": ("HISTORY_ROTATE", 60.0),
}  # fmt: skip
SHARES = {"critical": 0.03, "high": 0.12, "medium": 0.5, "low": 0.35}
WORDS = ("mailer", "indexer", "gateway", "billing", "search", "crawler", "printer", "resolver", "archiver", "proxy")
ASKED = ("Q_CURIOSITY_CRITICAL", "Q_CURIOSITY_HIGH", "Q_CURIOSITY_MEDIUM", "Q_CURIOSITY_LOW")

WaitFor = Callable[..., None]


class Storm:
    """The suite, and what it weighs."""

    def __init__(self, running: Suite) -> None:
        self.running = running
        self.pids: dict[str, int] = {}
        self.weights: dict[str, list[float]] = {}

    def start(self) -> None:
        self.pids["chem_proxy"] = self.running.start(PROXY).pid
        self.running.join(*ASKED, "Q_CURIOSITY_INVESTIGATE")
        for stem in (*CHAIN, *OTHERS):
            self.pids[stem] = self.running.start(f"kloros.consumers.{stem}_daemon").pid
        for stem in (*CHAIN, *OTHERS):
            self.running.wait_logged(f"kloros.consumers.{stem}_daemon", "started")
        self.pids["scheduler"] = self.running.start(SCHEDULER).pid
        self.weigh()

    def weigh(self) -> None:
        for name, pid in self.pids.items():
            self.weights.setdefault(name, []).append(resident_mib(pid))

    def blow(self, findings: Sequence[dict[str, Any]]) -> float:
        """Emit them, evenly; returns how long that took."""
        assert self.running.bus
        began_s = time.monotonic()
        for part in range(SLICES):
            for facts in findings[part::SLICES]:
                self.running.bus.emit("CAPABILITY_GAP", facts, incident_id=facts["gap_id"])
            self.weigh()
            time.sleep(max(0.0, began_s + STORM_S * (part + 1) / SLICES - time.monotonic()))
        return time.monotonic() - began_s

    def look(self, stem: str) -> Any:
        """A look into a daemon's database."""
        return snapshot(self.running.folder / "state" / stem / "state.db")

    def tell(self) -> None:
        print(f"\n{'process':26} {'before':>8} {'most':>8} {'after':>8}  MiB resident")
        for name, weights in self.weights.items():
            print(f"{name:26} {weights[0]:8.1f} {max(weights):8.1f} {weights[-1]:8.1f}")


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    with suite(tmp_path) as running:
        schedule = "".join(
            f'[entries.{name}]\ninterval_s = {interval_s}\nsignal = "Q_TRIGGER_{signal}"\necosystem = "storm"\n'
            for name, (signal, interval_s) in BEATS_S.items()
        )
        (tmp_path / "config/scheduler_config.toml").write_text(schedule)
        storm = Storm(running)
        storm.start()
        yield storm


def resident_mib(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def findings(count: int) -> list[dict[str, Any]]:
    """Of all sorts, in no order, no two the same."""
    chance = random.Random(7)
    severities = chance.choices(list(SHARES), list(SHARES.values()), k=count)
    return [_finding(number, severity, chance) for number, severity in enumerate(severities)]


def _finding(number: int, severity: str, chance: random.Random) -> dict[str, Any]:
    word = f"{chance.choice(WORDS)}-{number}"
    gap_type, name, evidence = chance.choice(
        (
            ("unit_unhealthy", f"{word}.service", ["problem=failed", f"exit=exit-code, status {number % 200}"]),
            ("journal_errors", f"{word}.service: cannot reach <ip>", ["message=cannot reach 10.0.0.1"]),
            ("disk_full", f"/srv/{word}", [f"mount=/srv/{word}"]),
        )
    )
    return {
        "gap_id": gap_id(gap_type, name), "gap_type": gap_type, "gap_name": name, "severity": severity,
        "evidence": evidence, "detail": f"{name} is unwell", "change": "opened",
    }  # fmt: skip


def tally(stored: Snapshot) -> Tally:
    return stored.document("tally", Tally) or Tally()


def test_a_storm_of_findings(storm: Storm, wait_for: WaitFor) -> None:
    blown = findings(FINDINGS)
    took_s = storm.blow(blown)
    assert took_s < 60.0, "it is to come within a minute"

    def all_heard() -> bool:
        storm.weigh()
        time.sleep(0.2)
        with storm.look(CURIOSITY) as stored:
            return tally(stored).heard >= FINDINGS

    wait_for(all_heard, SETTLE_LIMIT_S, "curiosity to hear everything")
    heard = storm.running.hear_all(1.0)
    with storm.look(CURIOSITY) as stored:
        figures = tally(stored)
        waiting = [row[0] for row in stored.query("SELECT gap_id FROM candidates")]
        questions = stored.query("SELECT gap_id, status, json_extract(body, '$.reason') FROM questions")
    storm.tell()
    print(f"{FINDINGS} findings in {took_s:.0f} s: asked {figures.asked}, archived {figures.archived}")
    print(f"{len(waiting)} wait")

    # The totals add up, and each finding is somewhere.
    assert figures.heard == FINDINGS
    assert figures.accounted + len(waiting) == FINDINGS
    assert {facts["gap_id"] for facts in blown} == {*waiting, *(row[0] for row in questions)}
    # Bounded: as the settings say.
    assert len(waiting) <= 1000
    assert sum(1 for row in questions if row[1] == "open") <= 200
    # The most valuable first: nothing severe was given up for want of room, and what was asked was severe.
    severity = {facts["gap_id"]: facts["severity"] for facts in blown}
    given_up = Counter(severity[gap] for gap, _, reason in questions if reason == Reason.QUEUE_FULL)
    asked = Counter(message.facts.severity for message in heard if message.signal in ASKED)
    print(f"given up for want of room: {dict(given_up)}; asked: {dict(asked)}")
    assert not given_up.keys() & {"critical", "high"}
    assert asked["critical"] + asked["high"] >= 0.9 * sum(asked.values())
    # What was asked is with the next ones, or has come through.
    asked_ids = {message.facts.question_id for message in heard if message.signal in ASKED}
    handed_on = {message.facts.question_id for message in heard if message.signal == "Q_CURIOSITY_INVESTIGATE"}
    wait_for(lambda: asked_ids <= known_to_dedup(storm), SETTLE_LIMIT_S, "what was asked to come to the next one")
    wait_for(lambda: handed_on <= known_to_investigation(storm), SETTLE_LIMIT_S, "what was handed on to come there")
    assert max(max(weights) for weights in storm.weights.values()) < MOST_MIB


def known_to_dedup(storm: Storm) -> set[str]:
    with storm.look(DEDUP) as stored:
        tables = ("waiting", "open", "folded", "ended")
        return {row[0] for table in tables for row in stored.query(f"SELECT question_id FROM {table}")}


def known_to_investigation(storm: Storm) -> set[str]:
    with storm.look(INVESTIGATION) as stored:
        waiting = stored.query("SELECT question_id FROM questions")
        ended = stored.query("SELECT question_id, status FROM investigations")
    assert len(waiting) <= 100
    return {row[0] for row in (*waiting, *ended)}
