"""Every consumer is killed in the middle of its work, and at random moments: each signal has its effect exactly once,
each cycle is done or not, and what they emit is sent once.

CONSUMERS_SEED gives the same run again.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.consumer_examples import SOME_DURABLE, consumers, example, signals_of
from support.killing import ECHO, ECHO_REASON, Stage

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.pub import ChemPub
from kloros.daemon.runner import stem_of

WaitFor = Callable[..., None]
SEED = int(os.environ.get("CONSUMERS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
RANDOM_KILLS = 6
LIMIT_S = 30.0

# What must be unique among the signals that a consumer emits.
ONCE = {
    **{f"Q_CURIOSITY_{level}": "question_id" for level in ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INVESTIGATE")},
    "Q_QUESTION_FOLDED": "question_id",
    "Q_ACTION_SPAWNED": "action_id",
}


@pytest.fixture(params=consumers(), ids=lambda each: stem_of(each))
def stage(request: pytest.FixtureRequest, runtime_dir: Path) -> Iterator[Stage]:
    stage = Stage(runtime_dir, request.param)
    yield stage
    stage.close()


class Feeder:
    """Gives a consumer its signals, each one new."""

    def __init__(self, stage: Stage, pub: ChemPub) -> None:
        self._stage, self._pub = stage, pub
        self._signals = signals_of(stage.consumer) or SOME_DURABLE[:1]
        self.fed = 0

    def feed(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.fed += 1
            for signal in self._signals:
                self._pub.emit(signal, facts=example(signal, self.fed))

    def trigger(self) -> None:
        self._pub.emit(self._stage.consumer.signal)


@pytest.fixture
def feeder(stage: Stage) -> Iterator[Feeder]:
    with ChemPub(Endpoints.for_runtime_dir(stage.folder / "runtime"), zooid_name="feeder") as pub:
        yield Feeder(stage, pub)


def test_killed_at_any_point_its_work_is_done_once(stage: Stage, feeder: Feeder, wait_for: WaitFor) -> None:
    print(f"CONSUMERS_SEED={SEED}")
    chance = random.Random(SEED)
    points = ["cycle begun", "cycle done"] * 2 + (["work begun", "work done"] * 2 if stage.consumer.consumes else [])
    chance.shuffle(points)
    for point in points:
        stage.lay_fuse(point)
        stage.tell("start")
        die(stage, feeder, point)
    for _ in range(RANDOM_KILLS):
        stage.tell("start")
        end_s = time.monotonic() + chance.uniform(0.05, 0.6)
        while time.monotonic() < end_s:
            feeder.feed()
            feeder.trigger()
            time.sleep(0.02)
        stage.tell("kill")
    stage.tell("start")
    cycles = len(stage.cycles())

    def is_over() -> bool:
        assert stage.tell("alive"), stage.log()[-2_000:]
        if len(stage.cycles()) == cycles:
            feeder.trigger()
            time.sleep(0.1)
            return False
        return stage.is_settled() and set(stage.done()) == {offset for offset, *_ in eaten(stage)}

    wait_for(is_over, LIMIT_S, f"the end of it (seed {SEED})")
    stage.tell("kill")
    judge(stage)


def die(stage: Stage, feeder: Feeder, point: str) -> None:
    """Give it work until it has died of the fuse."""
    deadline_s = time.monotonic() + LIMIT_S
    while stage.tell("alive"):
        feeder.feed()
        feeder.trigger()
        time.sleep(0.03)
        assert time.monotonic() < deadline_s, f"it never came to {point!r}: {stage.log()[-2_000:]}"
    assert not (stage.folder / "runtime" / "fuse").exists(), stage.log()[-2_000:]


def eaten(stage: Stage) -> list[tuple[int, str, Any]]:
    """What of the journal the consumer consumes."""
    wanted = stage.consumer.consumes

    def is_wanted(signal: str) -> bool:
        return any(signal == name or (name.endswith("*") and signal.startswith(name[:-1])) for name in wanted)

    return [row for row in stage.journal() if is_wanted(row[1])]


def is_echo(row: tuple[int, str, Any]) -> bool:
    return row[1] == ECHO and row[2]["facts"].get("reason") == ECHO_REASON


def judge(stage: Stage) -> None:
    journal, done, cycles = stage.journal(), stage.done(), stage.cycles()
    assert done == Counter(offset for offset, *_ in eaten(stage)), f"seed {SEED}"
    assert cycles == list(range(1, len(cycles) + 1)), f"seed {SEED}"
    zooid = stage.consumer.zooid
    echoes = Counter(row[2]["facts"]["flag_id"] for row in journal if is_echo(row))
    expected = [f"{zooid} work {row[0]}" for row in eaten(stage) if not is_echo(row)]
    expected += [f"{zooid} cycle {number}" for number in cycles]
    assert echoes == Counter(expected), f"seed {SEED}"
    for signal, key in ONCE.items():
        told = Counter(
            row[2]["facts"][key] for row in journal if row[1] == signal and str(row[2].get("pub")).startswith(zooid)
        )
        assert not [each for each, times in told.items() if times > 1], (signal, f"seed {SEED}")
    print(f"{zooid}: {done.total()} signals and {len(cycles)} cycles, each once, over {8 + RANDOM_KILLS} deaths")
    assert len(cycles) >= 1
    assert done.total() >= (20 if stage.consumer.consumes else 0)
