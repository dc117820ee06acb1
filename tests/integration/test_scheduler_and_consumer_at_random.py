"""The scheduler is killed and comes back, its settings change, the clock is wrong for a while: no beat runs twice, and
the work of its consumer never rests for long."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.bench import Bench, bench
from support.counting import Counting

from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.daemon.suite_settings import FallbackSettings, SuiteSettings
from kloros.orchestration.scheduler_daemon import SchedulerDaemon

START_US = 1_700_000_040 * 1_000_000
LIFE_S = 300.0
TURN_S = 0.5
INTERVALS_S = (3, 5, 10)
# Two intervals of silence engage the fallback, and its grid may just have had a beat when they began.
MOST_SILENT_S = 3 * max(INTERVALS_S) + 2 * TURN_S


class Life:
    """Two daemons under one clock, and what befalls them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance, self.folder = random.Random(seed), folder
        self.clock, self.hub = VirtualClock(wall_us=START_US), MemoryHub()
        self.scheduler: Bench[SchedulerDaemon] | None = None
        self.scheduler_life = ExitStack()
        self.wrong_by_s = 0
        self.story: list[str] = []
        self.ran_s = [0.0]
        self.write(5)

    @contextmanager
    def consumer(self) -> Iterator[Bench[Counting]]:
        suite = SuiteSettings(fallback=FallbackSettings(heartbeat_fallback=self.chance.random() < 0.5))
        with bench(Counting, self.folder / "consumer", self.clock, suite, self.hub) as table, self.scheduler_life:
            yield table

    def write(self, interval_s: int) -> None:
        folder = self.folder / "scheduler" / "config"
        folder.mkdir(parents=True, exist_ok=True)
        entry = (
            f'interval_s = {interval_s}\noffset_s = {self.chance.choice([0, 1, 2.5])}\nsignal = "Q_TRIGGER_COUNTING"\n'
        )
        (folder / "scheduler_config.toml").write_text(f"[entries.counting]\n{entry}")

    def start(self) -> None:
        table = bench(SchedulerDaemon, self.folder / "scheduler", self.clock, hub=self.hub)
        self.scheduler = self.scheduler_life.enter_context(table)

    def kill(self) -> None:
        self.scheduler_life.close()
        self.scheduler = None

    def configure(self) -> None:
        self.write(self.chance.choice(INTERVALS_S))
        if self.scheduler and self.chance.random() < 0.8:
            self.scheduler.daemon.reload()

    def step(self) -> None:
        self.clock.step_wall(-self.wrong_by_s)
        self.wrong_by_s = 0 if self.wrong_by_s else self.chance.choice([-3600, -20, -2, 7, 100, 3600])
        self.clock.step_wall(self.wrong_by_s)

    def befall(self) -> None:
        turn = self.kill if self.scheduler else self.start
        events = {turn: 0.02, self.configure: 0.02, self.step: 0.01}
        happens = self.chance.random()
        for event, likelihood in events.items():
            happens -= likelihood
            if happens < 0:
                self.story.append(f"{self.clock.monotonic_s()}: {event.__name__}, {self.wrong_by_s} s wrong before")
                event()
                return

    def pass_time(self, consumer: Bench[Counting]) -> None:
        self.clock.advance(TURN_S)
        if self.scheduler:
            self.scheduler.settle()
        consumer.settle()
        self.befall()


@pytest.mark.parametrize("seed", [0, 1, 2, 22, 31, 47, 56, 58])
def test_no_beat_is_run_twice_and_work_never_rests_for_long(tmp_path: Path, seed: int) -> None:
    life = Life(tmp_path, seed)
    with life.consumer() as consumer:
        life.start()
        while life.clock.monotonic_s() < LIFE_S:
            before = len(consumer.heard("Q_CYCLE_REPORT"))
            life.pass_time(consumer)
            if len(consumer.heard("Q_CYCLE_REPORT")) > before:
                life.ran_s.append(life.clock.monotonic_s())
        dues_ts = [report.facts.due_ts for report in consumer.heard("Q_CYCLE_REPORT") if report.facts.due_ts]
    assert len(dues_ts) == len(set(dues_ts)), life.story
    rests_s = [after_s - before_s for before_s, after_s in zip(life.ran_s, life.ran_s[1:], strict=False)]
    assert max(rests_s) <= MOST_SILENT_S, (life.story, life.ran_s)
