"""The optimiser killed at every step of a change, in every life again: each action and each change has exactly one end,
and what is in force is what that end says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kloros.chembus.facts import ChangedFacts, HeartbeatFacts, TickEntry, TickFacts
from kloros.clock import VirtualClock
from kloros.config import convert
from kloros.daemon.cycle import Cycle, Outgoing
from kloros.daemon.fallback import Run, Source
from kloros.machine.privileged_protocol import Answer, AnyRequest
from kloros.optimisation import store
from kloros.optimisation.changes import Change, ChangeState
from kloros.optimisation.levers import Budgets, Hand, Paces, Thresholds
from kloros.optimisation.live import Live
from kloros.optimisation.model import ActionKind, Value
from kloros.optimisation.optimiser_metrics import NoMetrics
from kloros.optimisation.round import Round
from kloros.optimisation.settings import OptimiserSettings
from kloros.optimisation.step_journal import Desk
from kloros.optimisation.store import OPTIMISER_TABLES, Stage, Taken
from kloros.optimisation.swap import Versions
from kloros.storage import artifacts
from kloros.storage.state_store import StateStore
from kloros.telemetry.logs import get_logger

MODULE, STEM = "semantic_dedup", "semantic_dedup_consumer"
OWN_S = 4.0
SETTINGS = convert(
    {
        "modes": dict.fromkeys(("tune_threshold", "increase_budget", "reduce_load", "hot_swap_module"), "auto"),
        "limits": {"cool_down_s": 0.0, "answer_s": 1.0, "unhealthy_share": 1.0},
        "verification": {"settle_s": 10.0, "min_samples": 5, "lease_s": 600.0},
        "hot_swap": {"start_s": 3.0, "probation_cycles": 3, "lease_s": 600.0},
    },
    OptimiserSettings,
    Path("optimiser_config.toml"),
)


class Killed(BaseException):
    """kill -9."""


@dataclass
class World:
    """Everything outside, which no kill touches; `fuse`: after so many steps the optimiser is killed, again."""

    folder: Path
    clock: VirtualClock = field(default_factory=VirtualClock)
    granted_s: float | None = None
    pace: float = 1.0
    began_s: float = 0.0
    version: str = ""
    broken: frozenset[str] = frozenset()
    lives: bool = True
    sent: list[Outgoing] = field(default_factory=list)
    fuses: list[int] = field(default_factory=list)
    steps: int = 0
    is_there: bool = True
    paused: str = ""

    @property
    def root(self) -> Path:
        return artifacts.artifacts_under(self.folder)

    def step(self) -> None:
        self.steps += 1
        if self.fuses and self.steps == self.fuses[0]:
            self.fuses.pop(0)
            self.steps = 0
            raise Killed

    def ask(self, request: AnyRequest, timeout_s: float = 30.0) -> Answer:
        """The helper."""
        self.step()
        self.version = artifacts.current_version(self.root, MODULE) or ""
        self.began_s, self.lives = self.clock.monotonic_s(), self.version not in self.broken
        self.step()
        return Answer(outcome="done")

    def obey(self, out: Outgoing, live: Live) -> None:
        facts: Any = out.facts
        if out.signal == "CYCLE_BUDGET":
            self.granted_s = facts.budget_s
        elif out.signal == "Q_SCHEDULE_CONTROL":
            self.pace = facts.value
            live.hear_answer(ChangedFacts(op="set_pace", ok=True, requester=facts.requester))
        self.show(live)

    def show(self, live: Live) -> None:
        now_s = self.clock.monotonic_s()
        live.hear_tick(
            TickFacts(tick=1, uptime_s=1.0, entries={"e": TickEntry(signal="Q", interval_s=5.0, pace=self.pace)}), now_s
        )
        if self.lives:
            heart = HeartbeatFacts(
                zooid=f"{STEM}_daemon", niche="x", uptime_s=now_s - self.began_s, processed_count=0, schedule="e",
                mode="normal", budget_s=self.granted_s or OWN_S,
            )  # fmt: skip
            live.hear_heart(heart, now_s)
        else:
            live.hearts.clear()


class Life:
    """One process's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = StateStore(world.folder / "optimiser" / "state.db", OPTIMISER_TABLES)
        self.live = Live(world.clock.monotonic_s())
        world.show(self.live)

    def keep(self, cycle: Cycle) -> None:
        self.world.step()
        with self.store.exact(cycle.documents) as database:
            for sql, values in cycle.statements:
                database.execute(sql, values)
        durable = [out for out in cycle.outgoing if out.signal not in ("CYCLE_BUDGET", "Q_SCHEDULE_CONTROL")]
        self.world.sent += durable  # in the outbox, by the same transaction
        self.world.step()
        for out in cycle.outgoing:
            if out not in durable:
                self.world.obey(out, self.live)
        self.world.step()

    def wait(self, seconds: float) -> bool:
        self.world.clock.advance(seconds)
        self.world.show(self.live)
        return True

    def round(self) -> None:
        world, clock = self.world, self.world.clock
        cycle = Cycle(
            run=Run(Source.INJECTED), budget_s=1e9, log=get_logger(), clock=clock, store=self.store, keep=self.keep
        )
        cycle.cancelled = threading.Event()
        world.show(self.live)
        versions = Versions(world.folder, self.live, clock, world, SETTINGS.hot_swap)

        def emit(signal: str, facts: Any) -> None:
            cycle.emit(signal, facts)
            cycle.commit()

        desk = Desk(
            SETTINGS,
            {
                ActionKind.TUNE_THRESHOLD: Thresholds(cycle, SETTINGS),
                ActionKind.INCREASE_BUDGET: Budgets(self.live, clock),
                ActionKind.REDUCE_LOAD: Paces(self.live, clock, cycle),
                ActionKind.HOT_SWAP_MODULE: versions,
            },
            versions, Hand(self.wait, emit, 1.0), lambda: world.paused, lambda: (0, 1), NoMetrics(),
        )  # fmt: skip
        beat = Round(cycle, desk, self.live, "optimiser_daemon")
        beat.finish_what_is_under_way()
        beat.keep_up()
        beat.enact()
        beat.verify()
        cycle.commit()

    def close(self) -> None:
        self.store.close()


class Story:
    """One action and what comes of it, over as many lives as it takes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kills = 0
        self.life = Life(world)

    def survive(self, what: Callable[[Life], None]) -> None:
        """Do it; each kill is followed by another life that goes on."""
        while True:
            try:
                what(self.life)
                return
            except Killed:
                self.kills += 1
                self.life.close()
                self.life = Life(self.world)
                what = Life.round

    def take(self, kind: str, module: str = STEM, parameters: dict[str, str] | None = None) -> None:
        raw = {
            "action_id": "i-1", "module_name": module, "action_kind": kind, "priority": 0.5,
            "parameters": parameters or {},
        }  # fmt: skip
        now_us = self.world.clock.wall_us()
        taken = Taken(action_id="i-1", seq=1, stage=Stage.QUEUED, module=module, kind=kind, raw=raw, taken_us=now_us)
        store.put_action(Pen(self.life), taken)

    def samples(self, duration_s: float, outcome: str = "ok", count: int = 10) -> None:
        for _ in range(count):
            self.world.clock.advance(5.0)
            store.put_sample(Pen(self.life), STEM, self.world.clock.wall_us(), duration_s, outcome)

    def enact(self) -> None:
        self.survive(Life.round)

    def ends(self) -> Counter[str]:
        return Counter(out.signal for out in self.world.sent if out.signal in ("Q_ENACTMENT", "Q_REFLECTION_REPORT"))

    def told(self, signal: str) -> Any:
        (facts,) = [out.facts for out in self.world.sent if out.signal == signal]
        return facts

    def changes(self) -> list[Change]:
        database = self.life.store.database
        return [*store.open_changes(database), *store.ended_changes(database, 10)]


class Pen:
    """A life's database as a pen that keeps at once."""

    def __init__(self, life: Life) -> None:
        self._database = life.store.database

    def query(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        return self._database.query(sql, values)

    def execute(self, sql: str, values: Any = ()) -> object:
        return self._database.execute(sql, values)

    def emit(self, signal: str, facts: Any = None, *, incident_id: str | None = None) -> None:
        raise NotImplementedError


def tune(story: Story) -> None:
    story.take("TUNE_THRESHOLD", parameters={"metric": "latency_p95_threshold_ms", "delta": "0.2"})


def budget(story: Story) -> None:
    story.take("INCREASE_BUDGET", parameters={"budget_factor": "1.5", "aim": "latency"})


def load(story: Story) -> None:
    story.take("REDUCE_LOAD", parameters={"pace": "0.5", "aim": "latency"})


def swap(story: Story) -> None:
    staged = artifacts.stage(story.world.root, MODULE, "p-1", {artifacts.PARAMETERS: b"a = 1\n"})
    store.put_verdict(Pen(story.life), "c-1", "promote", staged.name, staged.sha256, 0)
    given = {"artifact": staged.name, "sha256": staged.sha256, "candidate_id": "c-1", "source": "shadow"}
    story.take("HOT_SWAP_MODULE", MODULE, given)


KINDS = {"tune": tune, "budget": budget, "load": load, "swap": swap}
AFTER = {"better": (0.5, "ok"), "worse": (9.0, "ok"), "failing": (1.0, "failed"), "nothing": (0.0, "")}


def in_force(story: Story, kind: str) -> Value:
    if kind == "tune":
        found = store.knob(story.life.store.database, "TUNE_THRESHOLD", STEM, "latency_p95_threshold_ms")
        return found.value if found else 500.0
    if kind == "budget":
        return story.world.granted_s or OWN_S
    return story.world.pace if kind == "load" else story.world.version


def lived(folder: Path, kind: str, after: str, fuses: list[int], *, is_broken: bool = False) -> Story:
    """A whole story, with a kill after so many steps, and after so many more, ..."""
    world = World(folder, broken=frozenset({"p-1"} if is_broken else ()))
    story = Story(world)
    story.samples(1.0)
    KINDS[kind](story)
    world.fuses = list(fuses)
    story.enact()
    duration_s, outcome = AFTER[after]
    if outcome:
        story.samples(duration_s, outcome, 15)
    story.enact()
    for _ in range(3):
        world.clock.advance(601.0)
        story.enact()
    world.fuses = []
    return story


def must_be_whole(story: Story, kind: str) -> None:
    """Exactly one end of the action, one of its change, and in force is what they say."""
    (change,) = story.changes()
    assert not change.is_open
    assert story.ends() == {"Q_ENACTMENT": 1, "Q_REFLECTION_REPORT": 1}
    assert story.told("Q_REFLECTION_REPORT").verdict == change.verdict
    expected = change.after if change.verdict == "CONFIRMED" else change.before
    assert in_force(story, kind) == expected
    knobs = store.knobs(story.life.store.database)
    assert [knob.is_confirmed for knob in knobs] == ([True] if change.verdict == "CONFIRMED" and kind != "swap" else [])
    assert not store.actions(story.life.store.database, Stage.QUEUED, Stage.WAITING, Stage.ACTING)
    story.life.close()


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_step_leaves_exactly_one_end(tmp_path: Path, kind: str, after: str) -> None:
    calm = lived(tmp_path / "calm", kind, after, [10_000])
    verdict, steps = calm.changes()[0].verdict, calm.world.steps
    must_be_whole(calm, kind)
    assert steps > 10
    for fuse in range(1, steps + 1):
        story = lived(tmp_path / str(fuse), kind, after, [fuse])
        assert story.kills == 1
        must_be_whole(story, kind)
    assert verdict is not None


def test_the_ends_are_those_that_the_figures_speak_for(tmp_path: Path) -> None:
    ends = {}
    for kind in KINDS:
        for after in AFTER:
            story = lived(tmp_path / f"{kind} {after}", kind, after, [])
            ends[kind, after] = str(story.changes()[0].verdict)
            story.life.close()
    assert {kind: ends[kind, "better"] for kind in KINDS} == dict.fromkeys(KINDS, "CONFIRMED")
    assert {kind: ends[kind, "worse"] for kind in KINDS} == dict.fromkeys(KINDS, "REVERTED")
    assert {kind: ends[kind, "failing"] for kind in KINDS} == dict.fromkeys(KINDS, "REVERTED")
    assert {kind: ends[kind, "nothing"] for kind in KINDS} == dict.fromkeys(KINDS, "INCONCLUSIVE")


def test_a_kill_at_any_step_of_a_swap_that_does_not_come_up_brings_the_old_version_back(tmp_path: Path) -> None:
    calm = lived(tmp_path / "calm", "swap", "nothing", [10_000], is_broken=True)
    steps = calm.world.steps
    assert calm.told("Q_ENACTMENT").status == "FAILED"
    for fuse in range(1, steps + 1):
        story = lived(tmp_path / str(fuse), "swap", "nothing", [fuse], is_broken=True)
        assert story.world.lives
        assert story.told("Q_ENACTMENT").status == "FAILED"
        must_be_whole(story, "swap")
        assert story.kills == 1


def test_a_swap_that_was_cut_short_is_not_completed_while_all_is_paused(tmp_path: Path) -> None:
    steps = lived(tmp_path / "calm", "swap", "nothing", [10_000]).world.steps
    verdicts = []
    for fuse in range(1, steps + 1):
        story = Story(World(tmp_path / str(fuse)))
        swap(story)
        story.world.fuses = [fuse]
        try:
            story.life.round()
        except Killed:
            was_there = artifacts.current_version(story.world.root, MODULE) is not None
            was_made = any(change.state is ChangeState.SETTLING for change in story.changes())
            story.life.close()
            story.world.paused, story.life = "the kill file is there", Life(story.world)
            story.life.round()
            if was_there and not was_made:
                assert (story.world.version, artifacts.current_version(story.world.root, MODULE)) == ("", None)
                verdicts += [change.verdict for change in story.changes()]
        story.life.close()
    assert set(verdicts) == {"REVERTED"}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)), after=st.sampled_from(sorted(AFTER)), is_broken=st.booleans(),
    fuses=st.lists(st.integers(1, 25), max_size=8),
)  # fmt: skip
def test_many_kills_leave_exactly_one_end(
    tmp_path_factory: pytest.TempPathFactory, kind: str, after: str, is_broken: bool, fuses: list[int]
) -> None:
    story = lived(tmp_path_factory.mktemp("story"), kind, after, fuses, is_broken=is_broken)
    must_be_whole(story, kind)
