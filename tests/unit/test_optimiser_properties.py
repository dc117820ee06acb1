"""Whatever comes in, in whatever order, and however often the process is killed meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.optimising import MODULES, SHA256, Killed, World, action, figures, run

from kloros.optimisation import book as books
from kloros.optimisation.changes import Change, end
from kloros.optimisation.effects import THRESHOLD_BOUNDS, Around, NoEffect, effect_of
from kloros.optimisation.gates import Answer, Gate, GateState, Standing, decide
from kloros.optimisation.model import (
    THRESHOLDS,
    ActionKind,
    EnactmentStatus,
    ImprovementAction,
    OptimiserConfig,
    Verdict,
)
from kloros.optimisation.optimiser import AsyncSelfOptimiser
from kloros.optimisation.rules import BreakerRules, Limits, Verification

K = ActionKind
CONFIG = OptimiserConfig(
    max_enactments_per_cycle=3, max_hot_swap_per_cycle=1, cool_down_s=5, window_s=30, modes={"NO_OP": "auto"},
    breaker=BreakerRules(failures=4, window_s=20, pause_s=30), verification=Verification(settle_s=4, min_samples=5),
)  # fmt: skip

numbers = st.one_of(
    st.sampled_from(["nan", "inf", "-inf", "1e99", "-1e99", "1e15", "0", "-1", "0.1", "-0.3", "1e-9", "9" * 400, "½"]),
    st.floats(-2, 3).map(lambda value: f"{value:.3f}"),
    st.sampled_from(["2", "0.5", "-0.5", "1.5"]),
)
texts = st.one_of(
    st.sampled_from(["__import__('os')", "../../x", "\x00", "; rm -rf /", "alpha/v2"]), st.text(max_size=8)
)
parameters = st.dictionaries(
    st.sampled_from(["metric", "delta", "suggested_delta", "budget_factor", "pace", "aim", "code", "x"]),
    st.one_of(numbers, texts, st.sampled_from(THRESHOLDS), st.sampled_from(["latency", "errors"])),
    max_size=4,
)
swaps = st.fixed_dictionaries({"artifact": st.sampled_from([f"{m}/v{n}" for m in MODULES for n in range(3)]),
                               "sha256": st.sampled_from([SHA256, "x"])})  # fmt: skip
times = st.one_of(st.none(), st.sampled_from([0.0, 1e10, float("nan"), float("inf"), -1.0, 1e300]))


@st.composite
def actions(draw: st.DrawFn) -> Any:
    kind = draw(st.one_of(st.sampled_from(list(K)), st.sampled_from(list(K)[:4]), st.sampled_from(["X", "", None, 3])))
    given = draw(swaps if kind is K.HOT_SWAP_MODULE else parameters)
    return action(
        kind, draw(st.sampled_from([*MODULES, *MODULES, "nobody", "a b", ""])),
        draw(st.sampled_from(["", *(f"a-{n}" for n in range(12))])), parameters=given,
        priority=draw(st.one_of(st.floats(0, 1), st.floats(), st.just(10**400))), expires_at=draw(times),
        rationale=draw(texts),
    )  # fmt: skip


anything = st.one_of(
    actions(), actions(), actions(), st.none(), st.integers(), st.dictionaries(texts, texts, max_size=2)
)
steps = st.lists(
    st.tuples(st.lists(anything, max_size=6), st.floats(0, 12), st.floats(20, 400), st.booleans()), max_size=12
)


class Watched:
    """Counts what really was tried, and says when a bound is crossed."""

    def __init__(self, world: World) -> None:
        self.world, self.acts_s, self.swaps_s = world, list[float](), list[float]()

    def saw(self, records: list[Any]) -> None:
        changing = {K.TUNE_THRESHOLD, K.INCREASE_BUDGET, K.REDUCE_LOAD, K.HOT_SWAP_MODULE}
        for record in records:
            if record.action.action_kind in changing and record.after is not None:
                self.acts_s.append(record.attempted_at)
                if record.action.action_kind is K.HOT_SWAP_MODULE:
                    self.swaps_s.append(record.attempted_at)

    def check(self) -> None:
        fresh = World()
        for module in MODULES:
            assert 1.0 <= self.world.budgets[module] <= 4.0
            assert 0.25 <= self.world.paces[module] <= 1.0
            held, base = self.world.thresholds[module], fresh.thresholds[module]
            assert held["latency_p95_threshold_ms"] <= held["latency_p99_threshold_ms"]
            for name, (low, high) in THRESHOLD_BOUNDS.items():
                assert low <= held[name] <= high
                assert base[name] / 2 - 1e-9 <= held[name] <= base[name] * 2 + 1e-9
        for times_s, most in ((self.acts_s, 3), (self.swaps_s, 1)):
            for time_s in times_s:
                assert sum(time_s <= other < time_s + CONFIG.window_s for other in times_s) <= most


def ends_are_one_each(book: books.Book) -> None:
    ended = Counter(change.change_id for change in book.ended)
    assert not ended or max(ended.values()) == 1
    assert not set(ended) & set(book.changes)
    assert all(isinstance(change.verdict, Verdict) for change in book.ended)


@settings(max_examples=120, deadline=None)
@given(steps)
def test_bounds_quotas_flags_and_ends_hold_for_any_stream(stream: Any) -> None:
    async def scenario() -> None:
        world, queue = World(), asyncio.Queue[ImprovementAction](maxsize=2)
        optimiser = AsyncSelfOptimiser(alert_queue=queue, config=CONFIG, **world.ports())
        watched, sent, heard = Watched(world), set[tuple[str, str]](), list[ImprovementAction]()
        for batch, wait_s, p95_ms, is_broken in stream:
            world.after = lambda module, p95_ms=p95_ms: figures(module, p95_ms=p95_ms)
            world.touch = _broken if is_broken else lambda what: None
            records = await optimiser.enact([*batch, *batch[:1]])
            world.touch = lambda what: None
            assert all(isinstance(record.status, EnactmentStatus) for record in records)
            watched.saw(records)
            watched.check()
            ends_are_one_each(optimiser.book)
            open_now = [change.module_name for change in optimiser.book.changes.values()]
            assert len(open_now) == len(set(open_now)), "one unverified change per module"
            flags = [
                raw for raw in batch if isinstance(raw, ImprovementAction) and raw.action_kind is K.FLAG_FOR_REVIEW
            ]
            sent |= {(_shown(flag.module_name) or "unknown", _shown(flag.rationale)) for flag in flags}
            while not queue.empty():
                heard.append(queue.get_nowait())
            world.clock.advance(wait_s)
            watched.check()
        while optimiser.flush() or not queue.empty():
            while not queue.empty():
                heard.append(queue.get_nowait())
        assert sent <= {(flag.module_name, flag.rationale) for flag in heard}
        await _until_all_ended(optimiser, world)
        watched.check()
        ends_are_one_each(optimiser.book)
        assert not optimiser.book.changes
        for change in optimiser.book.ended:
            assert change.is_restored or change.verdict is not Verdict.REVERTED

    run(scenario())


def _broken(what: str) -> None:
    raise OSError(what)


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


async def _until_all_ended(optimiser: AsyncSelfOptimiser, world: World) -> None:
    for _ in range(20):
        if not optimiser.book.changes:
            return
        world.clock.advance(600)
        await optimiser.verify()


# Killed at every step

ASKED = [
    action(K.TUNE_THRESHOLD, "alpha", "t-1", parameters={"delta": "0.3"}),
    action(K.INCREASE_BUDGET, "beta", "b-1", parameters={"aim": "latency"}),
    action(K.REDUCE_LOAD, "gamma", "r-1"),
    action(K.HOT_SWAP_MODULE, "delta", "s-1", parameters={"artifact": "delta/v2", "sha256": SHA256}),
]
OUTCOMES: dict[str, Callable[[str], Any]] = {
    "better": lambda module: figures(module, p95_ms=50.0),
    "worse": lambda module: figures(module, p95_ms=500.0),
    "silent": lambda module: None,
}


class Life:
    """One world, a disk, and processes that live on them one after the other, until a kill or the end."""

    def __init__(self, kills_at: set[int], outcome: str) -> None:
        self.world, self.disk, self.kills_at, self.step = World(), books.encode(books.Book()), kills_at, 0
        self.world.touch = self._touched
        self.world.after = OUTCOMES[outcome]
        self.told: Counter[str] = Counter()
        self.config = msgspec.structs.replace(
            CONFIG, max_enactments_per_cycle=100, enable_rate_limit=False, max_hot_swap_per_cycle=100
        )

    def _touched(self, what: str) -> None:
        self.step += 1
        if self.step in self.kills_at:
            raise Killed(what)

    def _keep(self, book: books.Book) -> None:
        self._touched("before keeping")
        self.disk = books.encode(book)
        self._touched("after keeping")

    async def _lives(self) -> None:
        optimiser = AsyncSelfOptimiser(
            config=self.config, book=books.decode(self.disk), keep=self._keep, **self.world.ports()
        )
        await optimiser.enact(ASKED)
        for wait_s in (5, 5, 3000, 10):
            self.world.clock.advance(wait_s)
            await optimiser.verify()

    def live(self) -> list[Change]:
        """Until a process reaches its end; what the disk then says ended."""
        for _ in range(len(self.kills_at) + 1):
            try:
                run(self._lives())
                break
            except Killed:
                self.world.clock.advance(0.5)
        kept = books.decode(self.disk)
        assert not kept.changes
        ends_are_one_each(kept)
        return kept.ended


def holds(life: Life, ended: list[Change]) -> None:
    """Each action came to one end, and what is in force is what that end says."""
    assert {change.change_id for change in ended} == {each.action_id for each in ASKED}
    for change in ended:
        in_force = life.world.value(change.action_kind, change.module_name, change.name)
        expected = change.after if change.verdict is Verdict.CONFIRMED else change.before
        assert in_force == expected, change


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_change_has_one_end_however_the_process_is_killed_at_any_step(outcome: str) -> None:
    whole = Life(set(), outcome)
    holds(whole, whole.live())
    assert whole.step > 20
    for step in range(1, whole.step + 1):
        life = Life({step}, outcome)
        holds(life, life.live())


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 60), max_size=8), st.sampled_from(sorted(OUTCOMES)))
def test_each_change_has_one_end_however_often_the_process_is_killed(kills_at: set[int], outcome: str) -> None:
    life = Life(kills_at, outcome)
    holds(life, life.live())


# The effects by themselves, as often as one likes


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(K)[:3]), st.sampled_from(THRESHOLDS), numbers), max_size=40))
def test_no_row_of_steps_leads_out_of_the_bounds(asked: Any) -> None:
    world, limits = World(), Limits()
    watched, base = Watched(world), World().thresholds["alpha"]
    for kind, metric, number in asked:
        given = {"metric": metric, "delta": number, "budget_factor": number, "pace": number}
        held = world.thresholds["alpha"]
        current, origin = {
            K.TUNE_THRESHOLD: (held[metric], base[metric]), K.INCREASE_BUDGET: (world.budgets["alpha"], 1.0),
            K.REDUCE_LOAD: (world.paces["alpha"], 1.0),
        }[kind]  # fmt: skip
        around = Around(current, origin, held["latency_p95_threshold_ms"], held["latency_p99_threshold_ms"])
        effect = effect_of(action(kind, parameters=given), around, limits)
        if isinstance(effect, NoEffect):
            continue
        assert isinstance(effect.after, float)
        if kind is K.TUNE_THRESHOLD:
            assert current * 0.5 - 1e-9 <= effect.after <= current * 1.5 + 1e-9
            held[metric] = effect.after
        elif kind is K.INCREASE_BUDGET:
            assert current <= effect.after <= current * 2
            world.budgets["alpha"] = effect.after
        else:
            world.paces["alpha"] = effect.after
        watched.check()


# The gates by themselves


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(anything, st.integers(-40_000_000, 40_000_000)), max_size=40))
def test_in_no_window_more_than_the_quota_passes_even_with_a_clock_that_jumps(stream: Any) -> None:
    state, now_us, passed = GateState(), 10**15, list[int]()
    config = msgspec.structs.replace(CONFIG, modes={})
    for raw, jump_us in stream:
        now_us += jump_us
        decision = decide(state, raw, Standing(now_us=now_us, wall_us=now_us), config)
        if jump_us < 0:
            passed = [min(each, now_us) for each in passed]
        if decision.answer is Answer.GO:
            passed.append(now_us)
        window = [each for each in passed if now_us - 30_000_000 < each <= now_us]
        assert len(window) <= 3
        again = msgspec.json.decode(msgspec.json.encode(state), type=GateState)
        assert again == state


@given(
    st.lists(st.tuples(st.sampled_from([K.TUNE_THRESHOLD, K.HOT_SWAP_MODULE]), st.integers(0, 14)), max_size=60),
    st.integers(0, 4), st.integers(0, 3),
)  # fmt: skip
def test_exactly_as_many_pass_as_every_sliding_window_has_room_for(stream: Any, most: int, most_swaps: int) -> None:
    config = OptimiserConfig(
        max_enactments_per_cycle=most, max_hot_swap_per_cycle=most_swaps, enable_rate_limit=False, window_s=30
    )
    state, now_s, passed = GateState(), 0, list[tuple[int, ActionKind]]()
    for kind, wait_s in stream:
        now_s += wait_s
        recent = [each for each in passed if each[0] > now_s - 30]
        has_room = len(recent) < most
        if kind is K.HOT_SWAP_MODULE:
            has_room = has_room and sum(each[1] is kind for each in recent) < most_swaps
        standing = Standing(now_us=now_s * 1_000_000, wall_us=0)
        decision = decide(state, action(kind), standing, config)
        assert (decision.answer is Answer.GO) == has_room
        if has_room:
            passed.append((now_s, kind))


def test_an_end_that_is_told_twice_is_written_down_once() -> None:
    book = books.Book()
    change = Change(
        change_id="c-1", action_kind=K.REDUCE_LOAD, module_name="alpha", name="pace", before=1.0, after=0.5,
        written_us=0, lease_until_us=1,
    )  # fmt: skip
    book.put(change)
    ended = end(change, Verdict.CONFIRMED, "good", 1, is_restored=False).change
    book.put(ended)
    book.put(ended)
    assert (book.changes, book.ended, book.find("c-1")) == ({}, [ended], ended)


@settings(max_examples=200, deadline=None)
@given(anything, st.booleans(), st.booleans(), st.sampled_from(["off", "observe", "approve", "auto"]))
def test_only_what_passes_every_gate_goes(raw: Any, is_paused: bool, is_dry: bool, mode: Any) -> None:
    state = GateState(paused="yes" if is_paused else "")
    config = OptimiserConfig(dry_run=is_dry, default_mode=mode)
    decision = decide(state, raw, Standing(now_us=1, wall_us=1), config)
    if decision.answer is Answer.GO:
        assert decision.gate is Gate.ACT
        assert (is_paused, is_dry, mode) == (False, False, "auto")
        assert decision.action.action_kind not in (K.FLAG_FOR_REVIEW, K.NO_OP)
    if isinstance(raw, ImprovementAction) and raw.action_kind is K.FLAG_FOR_REVIEW:
        assert decision.answer is Answer.FLAG
