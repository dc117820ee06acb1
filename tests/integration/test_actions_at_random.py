"""The action consumer through random lives: recommendations, decisions, endings, beats, failures, deaths, clock steps.

ACTIONS_SEED gives the same lives again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.actions import HELPED, NO_HELP, NOT_YET, Desk, Straw, StrawConsumer
from support.bench import bench

from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.consumers.action.action import Action, Stage, State
from kloros.consumers.action.kinds.base import Hand, Interrupted, NotDone, TooSlow, Unfit
from kloros.errors import HelperRefused

SEED = int(os.environ.get("ACTIONS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
LIVES, STEPS = 5, 60
TARGETS = [f"{name}.service" for name in "abcd"]
PER_TARGET, IN_ALL, WINDOW_S = 2, 4, 600.0
SETTINGS = f"""
[kinds.restart_unit]
mode = "auto"
[kinds.reset_failed]
mode = "approve"
[kinds.raise_limit]
mode = "observe"
[limits]
per_target = {PER_TARGET}
per_target_window_s = {WINDOW_S}
in_all = {IN_ALL}
in_all_window_s = {WINDOW_S}
backoff_s = 50.0
wait_at_most_s = 2000.0
[approvals]
valid_s = 400.0
[queue]
at_most = 6
"""


class Watched(Straw):
    """Notes what is done, when, and in which company."""

    def __init__(self, chance: random.Random, deeds: list[tuple[float, str]], consumer: list[Desk]) -> None:
        super().__init__(inverse="taken back")
        self.chance, self.deeds, self.consumer = chance, deeds, consumer
        self.faults: list[str] = []

    def check(self, action: Action) -> State:
        if self.chance.random() < 0.1:
            raise Unfit("not now")
        return super().check(action)

    def act(self, action: Action, before: State, hand: Hand) -> None:
        desk = self.consumer[-1]
        self.deeds.append((desk.table.clock.wall_us() / 1e6, action.target))
        written = [each for each in desk.actions(Stage.ACTING, Stage.SETTLING) if each.target == action.target]
        if [each.action_id for each in written] != [action.action_id]:  # an exception here would be an outcome
            self.faults.append(f"{action.action_id} is not alone on its target, or not written down")
        if action.mode != "auto" and not action.decided_by:
            self.faults.append(f"nobody approved {action.action_id}")
        ways = [NotDone("no"), TooSlow("slow"), HelperRefused(reason="no"), KeyError()]
        fails = self.chance.choice([None, None, None, None, None, None, *ways])
        if fails:
            raise fails
        if self.chance.random() < 0.1:
            raise Interrupted("the beat ends")

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Any:
        return self.chance.choice([HELPED, HELPED, NO_HELP, NOT_YET])


@contextmanager
def life(folder: Path, clock: VirtualClock, hub: MemoryHub) -> Iterator[Desk]:
    with bench(StrawConsumer, folder, clock, hub=hub) as table:
        table.settle()
        yield Desk(table)


@pytest.mark.parametrize("run", range(3))
def test_whatever_happens_each_action_ends_once_and_no_limit_is_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    print(f"ACTIONS_SEED={SEED}")
    chance = random.Random(SEED + run)
    deeds: list[tuple[float, str]] = []
    desks: list[Desk] = []
    kinds = ("restart_unit", "reset_failed", "raise_limit")
    monkeypatch.setattr(StrawConsumer, "straw", {kind: Watched(chance, deeds, desks) for kind in kinds})
    (tmp_path / "config").mkdir()
    (tmp_path / "config/action_consumer_config.toml").write_text(SETTINGS)
    clock, hub = VirtualClock(), MemoryHub()
    spawned, completed = Counter[str](), Counter[str]()
    for _ in range(LIVES):
        with life(tmp_path, clock, hub) as desk:
            desks.append(desk)
            for _ in range(STEPS):
                step(desk, chance, kinds)
            collect(desk, spawned, completed)
    outcomes = Counter(action.outcome for action in desk.actions(Stage.ENDED))
    print(f"{len(deeds)} deeds, {sum(spawned.values())} actions, {dict(outcomes)}")
    with life(tmp_path, clock, hub) as desk:
        desks.append(desk)
        for straw in StrawConsumer.straw.values():
            monkeypatch.setattr(straw, "judge", lambda *_: HELPED)
        for _ in range(12):
            clock.advance(500.0)
            desk.beat()
        assert desk.actions(*(stage for stage in Stage if stage is not Stage.ENDED)) == []
        collect(desk, spawned, completed)
    assert [straw.faults for straw in StrawConsumer.straw.values() if isinstance(straw, Watched) and straw.faults] == []
    assert len({target for _, target in deeds}) > 1
    assert max(spawned.values()) == 1
    assert max(completed.values()) == 1
    assert spawned.keys() <= completed.keys()
    within_limits(deeds)


def step(desk: Desk, chance: random.Random, kinds: tuple[str, ...]) -> None:
    what = chance.choice(["recommend"] * 4 + ["beat"] * 3 + ["advance"] * 3 + ["decide"] * 2 + ["restore", "reopen"])
    target = chance.choice(TARGETS)
    if what == "recommend":
        question = f"q-{chance.randrange(1 << 32):08x}"
        severity = chance.choice(["low", "medium", "high", "critical"])
        desk.recommend(chance.choice(kinds), target, question_id=question, severity=severity)
    elif what == "beat":
        desk.beat()
    elif what == "advance":
        desk.table.clock.advance(chance.choice([1.0, 30.0, 100.0, 300.0]))
    elif what == "decide":
        known = [action.action_id for action in desk.actions()] or ["a-00000000"]
        desk.decide(chance.choice(known), chance.choice(["approve", "approve", "reject"]))
    elif what == "restore":
        desk.restore(target)
    else:
        desk.reopen(target)


def collect(desk: Desk, spawned: Counter[str], completed: Counter[str]) -> None:
    """Count what this life's outsider heard."""
    spawned.update(facts.action_id for facts in desk.heard("Q_ACTION_SPAWNED"))
    completed.update(facts.action_id for facts in desk.heard("Q_ACTION_COMPLETE"))


def within_limits(deeds: list[tuple[float, str]]) -> None:
    for moment_s, target in deeds:
        recent = [each for each in deeds if moment_s - WINDOW_S < each[0] <= moment_s]
        assert len(recent) <= IN_ALL
        assert sum(each[1] == target for each in recent) <= PER_TARGET
