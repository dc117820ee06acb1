"""The whole way on the bench: findings are asked about and folded by the real daemons, answered; from that recorded
history a better threshold wins, proves itself in the shadow, and, put in force, folds what was not folded before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.bench import Bench, bench
from support.questions import CAUSES, UNITS

from kloros.chembus.facts_work import QuestionFacts
from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.consumers.curiosity_core_consumer_daemon import CuriosityCoreConsumerDaemon
from kloros.consumers.semantic_dedup_consumer_daemon import SemanticDedupConsumerDaemon
from kloros.consumers.shadow_daemon import ShadowDaemon
from kloros.consumers.tournament_consumer_daemon import TournamentConsumerDaemon
from kloros.daemon.consumer import Consumer
from kloros.storage.artifacts import artifacts_under, make_current, split_name

DAEMONS: tuple[type[Consumer], ...] = (
    CuriosityCoreConsumerDaemon, SemanticDedupConsumerDaemon, TournamentConsumerDaemon, ShadowDaemon,
)  # fmt: skip
SHADOW_SETTINGS = "[trial]\nwatch_s = 7200\nmost_gap_s = 3600\n"


class Machine:
    """The four daemons on one bus, with one clock; whoever investigates knows what was planted."""

    def __init__(self, benches: list[Bench[Any]], clock: VirtualClock, seed: int) -> None:
        self._benches, self._clock, self._chance = benches, clock, Random(seed)
        self._causes: dict[str, tuple[str, str]] = {}
        self._answered: set[str] = set()
        self._incidents = 0
        self.dedup = benches[1]

    def heard(self, signal: str) -> list[Any]:
        return [each.facts for each in self._benches[0].heard(signal)]

    def beat(self, seconds: float = 60.0) -> None:
        """Time passes, and everybody has a beat."""
        self._clock.advance(seconds)
        for table in self._benches:
            table.say(table.daemon.signal)
        for table in self._benches:
            table.settle()

    def live(self, incidents: int, stop: Callable[[], object] = lambda: False) -> None:
        """So many incidents happen, are found, asked about, and looked into."""
        for _ in range(incidents):
            self._happen()
            self.beat()
            self.beat()
            self._answer()
            if stop():
                return

    def _happen(self) -> None:
        self._incidents += 1
        unit = f"{self._chance.choice(UNITS)}-{self._incidents}"
        for cause in self._chance.sample(sorted(CAUSES), 2 if self._chance.random() < 0.3 else 1):
            for gap_type, pattern, evidence in CAUSES[cause]:
                if self._chance.random() < 0.8:
                    name = pattern.format(u=unit)
                    gap_id = f"{gap_type}:{name}:{evidence.get('problem')}"
                    self._causes[gap_id] = cause, f"{unit}.service"
                    told = [f"{key}={value}" for key, value in evidence.items()]
                    facts = {"gap_id": gap_id, "gap_type": gap_type, "gap_name": name, "evidence": told}
                    self._benches[0].outsider.emit("CAPABILITY_GAP", {**facts, "severity": "high"})

    def _answer(self) -> None:
        waiting: list[QuestionFacts] = self.heard("Q_CURIOSITY_INVESTIGATE")
        for question in waiting:
            if question.question_id not in self._answered and question.gap_id:
                self._answered.add(question.question_id)
                rule, target = self._causes[question.gap_id]
                action = {"action_type": "restart_unit", "target": target}
                self._benches[0].outsider.emit(
                    "Q_INVESTIGATION_COMPLETE",
                    {"question_id": question.question_id, "status": "concluded", "rule": rule, "confidence": 0.9,
                     "duration_ms": 3_000.0, "gap_id": question.gap_id, "recommended_action": action},
                )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    clock, hub = VirtualClock(), MemoryHub()
    for name in ("config", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "config/shadow_config.toml").write_text(SHADOW_SETTINGS)
    with ExitStack() as stack:
        benches = [stack.enter_context(bench(daemon, tmp_path, clock, hub=hub)) for daemon in DAEMONS]
        yield Machine(benches, clock, seed=1)


def test_from_findings_to_a_better_threshold_in_force(machine: Machine) -> None:
    machine.live(250, stop=lambda: any(each.verdict == "proposed" for each in machine.heard("Q_TOURNAMENT_COMPLETE")))
    ended = machine.heard("Q_TOURNAMENT_COMPLETE")
    print([(each.module_name, each.verdict, each.candidate, each.detail) for each in ended])
    (proposed,) = [each for each in ended if each.verdict == "proposed" and each.module_name == "semantic_dedup"]
    assert proposed.incumbent == {"threshold": 0.85}
    assert proposed.candidate["threshold"] < 0.85

    machine.live(250, stop=lambda: machine.heard("Q_SHADOW_VERDICT"))
    verdict = machine.heard("Q_SHADOW_VERDICT")[0]
    print(verdict.detail)
    assert (verdict.verdict, verdict.candidate_id) == ("promote", proposed.candidate_id)
    sources = [each.parameters["source"] for each in machine.heard("Q_IMPROVEMENT_ACTION")]
    assert sources[:2] == ["tournament", "shadow"]

    before = share_folded(machine)
    root = artifacts_under(machine.dedup.daemon.place.state)
    make_current(root, *split_name(verdict.artifact), verdict.sha256)
    machine.dedup.daemon.reload()
    asked, folded = counts(machine)
    machine.live(40)
    now_asked, now_folded = counts(machine)
    after = (now_folded - folded) / (now_asked - asked)
    print(f"folded before {before:.0%}, after {after:.0%}")
    assert after > before + 0.1


def counts(machine: Machine) -> tuple[int, int]:
    asked = sum(len(machine.heard(f"Q_CURIOSITY_{level}")) for level in ("CRITICAL", "HIGH", "MEDIUM", "LOW"))
    return asked, len(machine.heard("Q_QUESTION_FOLDED"))


def share_folded(machine: Machine) -> float:
    asked, folded = counts(machine)
    return folded / asked
