"""Each fault of the reference that ours must not have, and the conflicts between its tests."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest
from support.optimising import SHA256, World, action, figures, run

from kloros.clock import VirtualClock
from kloros.optimisation import book as books
from kloros.optimisation.model import (
    ActionKind,
    DetectorConfig,
    EnactmentRecord,
    EnactmentStatus,
    ImprovementAction,
    OptimiserConfig,
    OrchestratorOutcome,
    OrchestratorRequest,
    Verdict,
)
from kloros.optimisation.optimiser import MOST_HELD_FLAGS, AsyncSelfOptimiser
from kloros.optimisation.optimiser_metrics import PrometheusMetrics
from kloros.optimisation.rules import BreakerRules, Limits, Verification
from kloros.telemetry.metrics import Metrics

S, K = EnactmentStatus, ActionKind
VERIFYING = OptimiserConfig(verification=Verification(settle_s=10, min_samples=5), max_enactments_per_cycle=100)
FREE = OptimiserConfig(enable_rate_limit=False, max_enactments_per_cycle=1000, max_hot_swap_per_cycle=1000)


def swap(module: str = "alpha", version: str = "v2", action_id: str = "") -> ImprovementAction:
    parameters = {"artifact": f"{module}/{version}", "sha256": SHA256}
    return action(K.HOT_SWAP_MODULE, module, action_id, parameters=parameters)


def tune(metric: str = "latency_p95_threshold_ms", delta: str = "0.1", **more: Any) -> ImprovementAction:
    return action(K.TUNE_THRESHOLD, parameters={"metric": metric, "delta": delta}, **more)


async def one(optimiser: AsyncSelfOptimiser, wanted: Any, config: OptimiserConfig | None = None) -> EnactmentRecord:
    (record,) = await optimiser.enact([wanted], config=config)
    return record


def optimiser_in(world: World, config: OptimiserConfig = FREE, **more: Any) -> AsyncSelfOptimiser:
    return AsyncSelfOptimiser(config=config, **{**world.ports(), **more})


def test_a_missing_cool_down_entry_is_not_one_of_time_zero() -> None:
    clock = VirtualClock(monotonic_s=0.001)  # the machine has only just started
    optimiser = AsyncSelfOptimiser(clock=clock, config=OptimiserConfig(), thresholds=World(clock))
    assert run(one(optimiser, tune())).status is S.SUCCESS


def test_cooling_down_records_do_not_eat_the_enactments() -> None:
    async def scenario() -> None:
        optimiser = optimiser_in(World(), OptimiserConfig(max_enactments_per_cycle=2))
        assert (await one(optimiser, tune())).status is S.SUCCESS
        records = await optimiser.enact([tune(), tune(), tune(), action(K.INCREASE_BUDGET)])
        assert [each.status for each in records] == [S.RATE_LIMITED] * 3 + [S.SUCCESS]

    run(scenario())


def test_failures_start_a_cool_down_and_ten_calls_are_not_ten_failing_swaps() -> None:
    async def scenario() -> None:
        world = World()
        world.outcome = OrchestratorOutcome.SWAP_ERROR
        optimiser = optimiser_in(world, OptimiserConfig())
        statuses = [(await one(optimiser, swap())).status for _ in range(10)]
        assert statuses == [S.FAILED] + [S.RATE_LIMITED] * 9

    run(scenario())


def test_after_several_failures_of_different_modules_everything_pauses() -> None:
    async def scenario() -> None:
        world = World()
        world.outcome = OrchestratorOutcome.DEP_FAILED
        optimiser = optimiser_in(world, FREE)
        records = await optimiser.enact([swap(module) for module in ("alpha", "beta", "gamma", "delta")])
        assert [each.status for each in records] == [S.FAILED] * 3 + [S.RATE_LIMITED]
        assert records[3].reason_code == "breaker"
        world.clock.advance(FREE.breaker.pause_s)
        world.outcome = OrchestratorOutcome.SUCCESS
        assert (await one(optimiser, swap("delta"))).status is S.SUCCESS

    run(scenario())


def test_quotas_hold_for_a_window_and_not_for_a_call() -> None:
    async def scenario() -> None:
        world = World()
        optimiser = optimiser_in(world, OptimiserConfig(enable_rate_limit=False, max_hot_swap_per_cycle=2))
        for number in range(3):
            await optimiser.enact([swap("alpha", f"v{number}a"), swap("beta", f"v{number}b")])
        assert len([each for each in world.writes if each[0] == "version"]) == 2
        world.clock.advance(300)
        assert (await one(optimiser, swap("gamma"))).status is S.SUCCESS

    run(scenario())


def test_flags_are_never_rate_limited_away() -> None:
    async def scenario() -> None:
        queue: asyncio.Queue[ImprovementAction] = asyncio.Queue()
        optimiser = AsyncSelfOptimiser(alert_queue=queue, config=OptimiserConfig(max_enactments_per_cycle=1))
        records = await optimiser.enact([action(K.FLAG_FOR_REVIEW)] * 50)
        assert {each.status for each in records} == {S.SUCCESS}
        assert queue.qsize() == 50

    run(scenario())


def test_a_full_alert_queue_blocks_nobody_and_loses_nothing() -> None:
    async def scenario() -> None:
        queue: asyncio.Queue[ImprovementAction] = asyncio.Queue(maxsize=1)
        optimiser = optimiser_in(World(), alert_queue=queue)
        flags = [action(K.FLAG_FOR_REVIEW, rationale=f"trouble {number}") for number in range(10)]
        records = await asyncio.wait_for(optimiser.enact([*flags, tune()]), 5)
        assert {each.status for each in records} == {S.SUCCESS}
        heard = []
        while not queue.empty():
            heard.append(queue.get_nowait().rationale)
            optimiser.flush()
        assert heard == [each.rationale for each in flags]

    run(scenario())


def test_a_flag_that_cannot_even_be_held_says_so_and_passes_when_sent_again() -> None:
    async def scenario() -> None:
        queue: asyncio.Queue[ImprovementAction] = asyncio.Queue(maxsize=1)
        optimiser = AsyncSelfOptimiser(alert_queue=queue)
        flags = [action(K.FLAG_FOR_REVIEW, action_id=f"f-{number}") for number in range(MOST_HELD_FLAGS + 2)]
        records = await optimiser.enact(flags)
        assert [each.status for each in records[-2:]] == [S.SUCCESS, S.FAILED]
        queue.get_nowait()
        assert (await one(optimiser, flags[-1])).status is S.SUCCESS

    run(scenario())


def test_flags_wait_for_no_action_that_hangs() -> None:
    async def scenario() -> None:
        world, going_on, queue = World(), asyncio.Event(), asyncio.Queue[ImprovementAction]()

        async def hang(module: str, factor: float, lease_s: float | None) -> None:
            going_on.set()
            await asyncio.Event().wait()

        world.set_budget = hang  # type: ignore[method-assign]
        optimiser = optimiser_in(world, alert_queue=queue)
        hanging = asyncio.create_task(optimiser.enact([action(K.INCREASE_BUDGET)]))
        await going_on.wait()
        assert (await one(optimiser, action(K.FLAG_FOR_REVIEW))).status is S.SUCCESS
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging

    run(scenario())


def test_an_action_that_hangs_is_given_up() -> None:
    async def scenario() -> None:
        world = World()

        async def hang(module: str, factor: float, lease_s: float | None) -> None:
            world.budgets[module] = factor
            if factor != 1.0:
                await asyncio.Event().wait()

        world.set_budget = hang  # type: ignore[method-assign]
        optimiser = optimiser_in(world, OptimiserConfig(action_timeout_s=0.02))
        record = await one(optimiser, action(K.INCREASE_BUDGET))
        assert (record.status, record.reason_code, record.verdict) == (S.FAILED, "timed_out", Verdict.REVERTED)
        assert world.budgets["alpha"] == 1.0
        assert (await one(optimiser, tune())).status is S.SUCCESS

    run(scenario())


def test_a_module_is_never_swapped_for_no_code() -> None:
    async def scenario() -> None:
        with pytest.raises(ValueError, match="no code"):
            OrchestratorRequest("alpha", b"", "v2")
        requests = []

        class Orchestrator:
            async def orchestrate_swap(self, request: OrchestratorRequest) -> Any:
                requests.append(request)
                return SimpleNamespace(outcome=OrchestratorOutcome.SUCCESS, detail="")

        code = SimpleNamespace(fetch=lambda module, version: b"" if version == "empty" else b"code")
        optimiser = AsyncSelfOptimiser(Orchestrator(), config=FREE, code=code)
        assert (await one(optimiser, swap(version="empty"))).status is S.FAILED
        assert (await one(optimiser, swap(version="v3"))).status is S.SUCCESS
        assert (await one(AsyncSelfOptimiser(Orchestrator(), config=FREE), swap(version="v4"))).status is S.SUCCESS
        assert [(each.new_code, each.new_version) for each in requests] == [(b"code", "v3"), (None, "v4")]

    run(scenario())


@pytest.mark.parametrize(
    ("outcome", "status", "next_status"),
    [
        (OrchestratorOutcome.SUCCESS, S.SUCCESS, S.RATE_LIMITED),
        (OrchestratorOutcome.REJECTED, S.SKIPPED, S.RATE_LIMITED),
        (OrchestratorOutcome.SHUTDOWN, S.SKIPPED, S.SKIPPED),
        (OrchestratorOutcome.DEP_FAILED, S.FAILED, S.RATE_LIMITED),
        (OrchestratorOutcome.SWAP_ERROR, S.FAILED, S.RATE_LIMITED),
    ],
)
def test_rejected_and_shutdown_are_not_failures(
    outcome: OrchestratorOutcome, status: EnactmentStatus, next_status: EnactmentStatus
) -> None:
    async def scenario() -> None:
        world = World()
        world.outcome = outcome
        optimiser = optimiser_in(world, OptimiserConfig())
        assert (await one(optimiser, swap())).status is status
        assert (await one(optimiser, swap(version="v3"))).status is next_status
        assert bool((await optimiser.stats()).get("failed")) is (status is S.FAILED)

    run(scenario())


@pytest.mark.parametrize("metric", sorted(World().thresholds["alpha"]))
def test_a_tune_changes_exactly_the_threshold_it_names_of_exactly_its_module(metric: str) -> None:
    world, before = World(), World()
    record = run(one(optimiser_in(world), tune(metric)))
    changed = {
        (module, name)
        for module, thresholds in world.thresholds.items()
        for name, value in thresholds.items()
        if value != before.thresholds[module][name]
    }
    assert changed == {("alpha", metric)}
    assert (record.before, record.after) == (before.thresholds["alpha"][metric], world.thresholds["alpha"][metric])


def test_a_tune_can_tighten_too() -> None:
    world = World()
    assert run(one(optimiser_in(world), tune(delta="-0.25"))).status is S.SUCCESS
    assert world.thresholds["alpha"]["latency_p95_threshold_ms"] == 150.0


def test_tunes_pass_neither_p99_nor_their_range_however_many() -> None:
    async def scenario() -> None:
        world = World()
        world.thresholds["alpha"]["latency_p99_threshold_ms"] = 230.0
        optimiser = optimiser_in(world)
        for delta in ["0.5"] * 10:
            await one(optimiser, tune(delta=delta))
        assert world.thresholds["alpha"]["latency_p95_threshold_ms"] == 230.0
        for delta in ["-0.5"] * 10:
            await one(optimiser, tune("latency_p99_threshold_ms", delta=delta))
        assert world.thresholds["alpha"]["latency_p99_threshold_ms"] == 230.0
        for delta in ["0.5"] * 10:
            await one(optimiser, tune("error_rate_threshold", delta=delta))
        assert world.thresholds["alpha"]["error_rate_threshold"] == 0.1

    run(scenario())


@pytest.mark.parametrize("delta", ["nan", "inf", "-inf", "1e999", "0x10", "1_0", "٣", "", "__import__('os')", "1;2"])
def test_a_tune_takes_no_figure_that_is_none(delta: str) -> None:
    world = World()
    record = run(one(optimiser_in(world), tune(delta=delta)))
    assert (record.status, record.reason_code) == (S.FAILED, "bad_number")
    assert not world.writes


def test_budgets_do_not_compound_without_bound() -> None:
    async def scenario() -> None:
        world = World()
        optimiser = optimiser_in(world, msgspec.structs.replace(FREE, limits=Limits(budget_range=3.0)))
        statuses = [(await one(optimiser, action(K.INCREASE_BUDGET))).status for _ in range(10)]
        assert world.budgets["alpha"] == 3.0
        assert statuses[:3] == [S.SUCCESS, S.SUCCESS, S.PARTIAL]
        assert set(statuses[3:]) == {S.SKIPPED}

    run(scenario())


def test_success_means_that_it_is_in_force() -> None:
    async def scenario() -> None:
        world = World()
        world.set_threshold = lambda *_: None  # type: ignore[method-assign]
        record = await one(optimiser_in(world), tune())
        assert (record.status, record.reason_code) == (S.FAILED, "not_in_force")

        async def shed(module: str) -> None:
            pass

        blind = AsyncSelfOptimiser(cognitive_cycle=SimpleNamespace(_load_shedder=SimpleNamespace(shed=shed)))
        assert (await one(blind, action(K.REDUCE_LOAD))).status is S.PARTIAL

    run(scenario())


def test_everything_is_written_ahead_and_can_be_rolled_back() -> None:
    async def scenario() -> None:
        world, kept = World(), []
        world.touch = lambda what: kept.append((what, dict(optimiser.book.changes)))
        optimiser = optimiser_in(world, VERIFYING)
        await one(optimiser, tune(action_id="a-1"))
        what, changes = kept[0]
        assert what == "before threshold"
        assert (changes["a-1"].before, changes["a-1"].after, changes["a-1"].inverse) == (
            200.0,
            220.00000000000003,
            200.0,
        )
        reverted = await optimiser.revert("a-1")
        assert reverted is not None
        assert (reverted.verdict, reverted.is_restored) == (Verdict.REVERTED, True)
        assert world.thresholds["alpha"]["latency_p95_threshold_ms"] == 200.0
        assert await optimiser.revert("a-1") is None

    run(scenario())


def test_what_cannot_be_kept_is_not_done() -> None:
    def keep(book: books.Book) -> None:
        raise OSError("no space left")

    world = World()
    record = run(one(optimiser_in(world, keep=keep), tune()))
    assert (record.status, record.verdict) == (S.FAILED, Verdict.REVERTED)
    assert not world.writes


def test_an_id_is_enacted_once() -> None:
    async def scenario() -> None:
        world = World()
        optimiser = optimiser_in(world)
        first, again = await optimiser.enact([tune(action_id="a-1"), tune(action_id="a-1")])
        assert (first.status, again.status, again.reason_code) == (S.SUCCESS, S.SKIPPED, "duplicate")
        assert len(world.writes) == 1

    run(scenario())


def test_what_has_expired_is_not_enacted() -> None:
    world = World()
    now_s = world.clock.wall_us() / 1e6
    records = run(optimiser_in(world).enact([tune(expires_at=now_s), action(K.INCREASE_BUDGET, expires_at=now_s + 1)]))
    assert [each.reason_code for each in records] == ["expired", "in_force"]


def test_all_that_matters_survives_the_process() -> None:
    async def scenario() -> None:
        world, kept = World(), []
        config = msgspec.structs.replace(VERIFYING, max_enactments_per_cycle=1)
        await one(optimiser_in(world, config, keep=lambda book: kept.append(books.encode(book))), tune(action_id="a-1"))
        world.clock.advance(1)
        second = optimiser_in(world, config, book=books.decode(kept[-1]))
        assert (await one(second, tune(action_id="a-1"))).reason_code == "duplicate"
        assert (await one(second, tune(action_id="a-2"))).reason_code == "cool_down"
        assert (await one(second, action(K.INCREASE_BUDGET))).reason_code == "conflict"
        assert await second.enact([action(K.INCREASE_BUDGET, "beta")]) == []
        world.clock.advance(10)
        (ended,) = await second.verify()
        assert (ended.change_id, ended.verdict) == ("a-1", Verdict.CONFIRMED)

    run(scenario())


def test_there_is_a_kill_switch() -> None:
    async def scenario() -> None:
        world = World()
        optimiser = optimiser_in(world)
        optimiser.pause("an operator said so")
        records = await optimiser.enact([tune(), action(K.FLAG_FOR_REVIEW)])
        assert [each.reason_code for each in records] == ["paused", "flagged"]
        assert not world.writes
        optimiser.resume()
        assert (await one(optimiser, tune())).status is S.SUCCESS

    run(scenario())


def test_the_kill_switch_stops_what_is_being_planned() -> None:
    async def scenario() -> None:
        world = World()
        optimiser, read = optimiser_in(world), world.threshold

        def threshold(module: str, metric: str) -> float | None:
            optimiser.pause("now")
            return read(module, metric)

        world.threshold = threshold  # type: ignore[method-assign]
        assert (await one(optimiser, tune())).reason_code == "paused"
        assert not world.writes

    run(scenario())


def test_a_threshold_that_is_no_number_is_not_tuned() -> None:
    async def scenario() -> None:
        world = World()
        world.thresholds["alpha"]["latency_p95_threshold_ms"] = math.nan
        told = await one(optimiser_in(world), tune())
        assert (told.status, told.reason_code) == (S.FAILED, "bad_number")
        assert not world.writes

    run(scenario())


def test_a_lease_lapses_although_the_clock_was_set_back_between_two_lives() -> None:
    clock = VirtualClock(monotonic_s=1.0)
    world = World(clock)
    world.after = lambda module: None
    config = OptimiserConfig(verification=Verification())
    optimiser = AsyncSelfOptimiser(config=config, **world.ports())
    run(optimiser.enact([action(K.INCREASE_BUDGET, action_id="q")]))
    kept = books.encode(optimiser.book)
    clock.step_wall(-30 * 86_400.0)
    optimiser = AsyncSelfOptimiser(config=config, book=books.decode(kept), **world.ports())
    for _ in range(2):
        clock.advance(1801.0)
        run(optimiser.verify())
    assert not optimiser.book.changes
    assert world.budgets["alpha"] == 1.0


def test_the_kill_switch_stops_what_waits_for_its_turn() -> None:
    async def scenario() -> None:
        world, going_on, go = World(), asyncio.Event(), asyncio.Event()

        async def slow(module: str, factor: float, lease_s: float | None) -> None:
            going_on.set()
            await go.wait()
            world.budgets[module] = factor

        world.set_budget = slow  # type: ignore[method-assign]
        optimiser = optimiser_in(world)
        first = asyncio.create_task(optimiser.enact([action(K.INCREASE_BUDGET), tune()]))
        await going_on.wait()
        optimiser.pause("now")
        go.set()
        assert [each.reason_code for each in await first] == ["in_force", "paused"]

    run(scenario())


@pytest.mark.parametrize("kind", ["FORMAT_DISK", "", None, 7, "tune_threshold", b"NO_OP"])
def test_unknown_kinds_are_refused_aloud(kind: Any) -> None:
    async def scenario() -> None:
        queue: asyncio.Queue[ImprovementAction] = asyncio.Queue()
        record = await one(AsyncSelfOptimiser(alert_queue=queue), action(kind))
        assert (record.status, record.reason_code) == (S.FAILED, "unknown_kind")
        assert queue.get_nowait().action_kind is K.FLAG_FOR_REVIEW

    run(scenario())


def test_approval_fails_closed() -> None:
    async def scenario() -> None:
        world, queue = World(), asyncio.Queue[ImprovementAction]()
        config = msgspec.structs.replace(FREE, modes={"TUNE_THRESHOLD": "approve"})
        optimiser = optimiser_in(world, config, alert_queue=queue)
        assert (await one(optimiser, tune(action_id="a-1"))).reason_code == "needs_approval"
        assert queue.qsize() == 1
        optimiser.approve("a-2")
        assert (await one(optimiser, tune(action_id="a-1"))).reason_code == "needs_approval"
        optimiser.approve("a-1", for_s=10)
        world.clock.advance(10)
        assert (await one(optimiser, tune(action_id="a-1"))).reason_code == "needs_approval"
        optimiser.approve("a-1", for_s=10)
        assert (await one(optimiser, tune(action_id="a-1"))).status is S.SUCCESS
        assert (await one(optimiser, tune(action_id="a-1"))).reason_code == "duplicate"

    run(scenario())


def test_the_series_that_ratios_are_made_of_are_there_from_the_start() -> None:
    metrics = Metrics()
    counted = PrometheusMetrics(metrics)
    counted.know("alpha")
    text = generate_latest(metrics.registry).decode()
    for kind in K:
        for status in S:
            assert f'asi_optimiser_actions_enacted_total{{action_kind="{kind}",status="{status}"}} 0.0' in text
        assert f'asi_optimiser_enact_duration_seconds_count{{action_kind="{kind}"}} 0.0' in text
        assert f'asi_optimiser_actions_rate_limited_total{{action_kind="{kind}",module="alpha"}} 0.0' in text
    for outcome in OrchestratorOutcome:
        assert f'asi_optimiser_hot_swaps_total{{module="alpha",outcome="{outcome}"}} 0.0' in text
    assert "asi_optimiser_enact_calls_total 0.0" in text


def test_the_metrics_count_and_names_off_the_bus_cannot_fill_them() -> None:
    async def scenario() -> None:
        metrics, world = Metrics(), World()
        world.outcome = OrchestratorOutcome.SWAP_ERROR
        optimiser = optimiser_in(world, OptimiserConfig(), metrics=PrometheusMetrics(metrics))
        await optimiser.enact([swap(), swap(version="v3"), tune()])
        await optimiser.enact([action(K.INCREASE_BUDGET, f"m{number}") for number in range(1000)])
        value = metrics.registry.get_sample_value
        enacted = "asi_optimiser_actions_enacted_total"
        assert value("asi_optimiser_enact_calls_total") == 2
        assert value(enacted, {"action_kind": "HOT_SWAP_MODULE", "status": "FAILED"}) == 1
        assert value(enacted, {"action_kind": "TUNE_THRESHOLD", "status": "SUCCESS"}) == 1
        assert value(enacted, {"action_kind": "INCREASE_BUDGET", "status": "DEFERRED"}) == 997
        limited = {"module": "alpha", "action_kind": "HOT_SWAP_MODULE"}
        assert value("asi_optimiser_actions_rate_limited_total", limited) == 1
        assert value("asi_optimiser_hot_swaps_total", {"module": "alpha", "outcome": "SWAP_ERROR"}) == 1
        assert value("asi_optimiser_enact_duration_seconds_count", {"action_kind": "TUNE_THRESHOLD"}) == 1
        swaps = PrometheusMetrics(Metrics())
        for number in range(1000):
            swaps.rate_limited(f"m{number}", "NO_OP")
        assert len(swaps._modules) == 201

    run(scenario())


# Code never comes off the bus


@pytest.mark.parametrize(
    ("kind", "parameters", "code"),
    [
        (K.HOT_SWAP_MODULE, {"new_code": "import os"}, "carries_code"),
        (K.TUNE_THRESHOLD, {"Code": "x"}, "carries_code"),
        (K.INCREASE_BUDGET, {"command": "rm"}, "carries_code"),
        (K.HOT_SWAP_MODULE, {"artifact": "../../etc/passwd", "sha256": SHA256}, "bad_artifact"),
        (K.HOT_SWAP_MODULE, {"artifact": "/etc/passwd", "sha256": SHA256}, "bad_artifact"),
        (K.HOT_SWAP_MODULE, {"artifact": "alpha/..", "sha256": SHA256}, "bad_artifact"),
        (K.HOT_SWAP_MODULE, {"artifact": "beta/v2", "sha256": SHA256}, "bad_artifact"),
        (K.HOT_SWAP_MODULE, {"artifact": "alpha/v2"}, "bad_artifact"),
        (K.HOT_SWAP_MODULE, {"artifact": "alpha/v2", "sha256": "0"}, "bad_artifact"),
        (K.HOT_SWAP_MODULE, {"target_version": "../v2"}, "bad_artifact"),
        (K.HOT_SWAP_MODULE, {"hook": "x"}, "bad_parameters"),
        (K.TUNE_THRESHOLD, {"metric": "__class__"}, "unknown_metric"),
        (K.TUNE_THRESHOLD, {"delta": "0.1\nimport os"}, "bad_parameters"),
    ],
)
def test_code_paths_and_strange_parameters_are_refused_and_flagged(
    kind: ActionKind, parameters: dict[str, str], code: str
) -> None:
    async def scenario() -> None:
        world, queue = World(), asyncio.Queue[ImprovementAction]()
        record = await one(optimiser_in(world, alert_queue=queue), action(kind, parameters=parameters))
        assert (record.status, record.reason_code) == (S.FAILED, code)
        assert not world.writes
        assert ("reason_code", code) in queue.get_nowait().parameters

    run(scenario())


class Hostile(dict[str, Any]):
    def get(self, *_: Any) -> Any:
        raise RuntimeError("looked at")


@pytest.mark.parametrize("raw", [None, 0, "text", [], {}, Hostile(), object(), action(K.NO_OP, module="a b"), {"a": 1}])
def test_nothing_that_is_handed_in_comes_out_as_an_exception(raw: Any) -> None:
    record = run(one(AsyncSelfOptimiser(), raw))
    assert record.status is S.FAILED
    run(AsyncSelfOptimiser().enact(raw))


# The conflicts between the document's tests


def test_dry_run_wins_over_the_cool_down() -> None:
    async def scenario() -> None:
        optimiser = optimiser_in(World(), OptimiserConfig())
        await one(optimiser, tune())
        assert (await one(optimiser, tune())).status is S.RATE_LIMITED
        assert (await one(optimiser, tune(), OptimiserConfig(dry_run=True))).status is S.SKIPPED

    run(scenario())


def test_a_duck_typed_cycle_still_works_with_any_kind_of_config() -> None:
    class Plain:
        latency_p95_threshold_ms = 100.0
        error_rate_threshold = 0.5

    for config in (DetectorConfig(latency_p95_threshold_ms=100.0), Plain()):
        cycle = SimpleNamespace(_detector_config=config)
        assert run(one(AsyncSelfOptimiser(cognitive_cycle=cycle), tune(delta="0.5"))).status is S.SUCCESS
        assert cycle._detector_config.latency_p95_threshold_ms == 150.0
        assert config.latency_p95_threshold_ms == 100.0


def test_nothing_is_changed_while_too_many_are_unhealthy() -> None:
    async def scenario() -> None:
        sick = SimpleNamespace(unhealthy=lambda: (sick.count, 10), count=5)
        optimiser = optimiser_in(World(), health=sick)
        assert (await one(optimiser, tune())).reason_code == "blast_radius"
        sick.count = 4
        assert (await one(optimiser, tune())).status is S.SUCCESS
        blind = optimiser_in(World(), health=SimpleNamespace())
        assert (await one(blind, tune())).reason_code == "blast_radius"

    run(scenario())


def test_a_cancelled_action_passes_the_cancellation_on_and_its_change_still_ends() -> None:
    async def scenario() -> None:
        world, going_on = World(), asyncio.Event()

        async def hang(module: str, factor: float, lease_s: float | None) -> None:
            world.budgets[module] = factor
            if not going_on.is_set():
                going_on.set()
                await asyncio.Event().wait()

        world.set_budget = hang  # type: ignore[method-assign]
        world.after = lambda module: figures(module, p95_ms=500.0)
        optimiser = optimiser_in(world, VERIFYING)
        task = asyncio.create_task(optimiser.enact([action(K.INCREASE_BUDGET, action_id="a-1")]))
        await going_on.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "a-1" in optimiser.book.changes
        await optimiser.verify()
        world.clock.advance(20)
        (ended,) = await optimiser.verify()
        assert (ended.verdict, world.budgets["alpha"]) == (Verdict.REVERTED, 1.0)

    run(scenario())


@pytest.mark.parametrize(
    "fields",
    [
        {"max_enactments_per_cycle": -1}, {"max_enactments_per_cycle": True}, {"max_hot_swap_per_cycle": 1.5},
        {"cool_down_s": float("nan")}, {"cool_down_s": -1}, {"window_s": 0}, {"action_timeout_s": float("inf")},
        {"unhealthy_share": 2}, {"default_mode": "always"}, {"modes": {"TUNE": "auto"}}, {"modes": {"NO_OP": "x"}},
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        OptimiserConfig(**fields)


@pytest.mark.parametrize(
    "make", [lambda: BreakerRules(failures=0), lambda: Limits(tune_step=1), lambda: Verification(0, 0)]
)
def test_rules_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must be from"):
        make()


def test_only_the_library_knows_asyncio() -> None:
    room = Path(books.__file__).parent
    users = {path.stem for path in room.glob("*.py") if "import asyncio" in path.read_text()}
    assert users <= {"optimiser", "enacting"}


def test_what_cannot_be_put_back_is_tried_again_and_then_told_to_a_person() -> None:
    async def scenario() -> None:
        world, queue = World(), asyncio.Queue[ImprovementAction]()
        world.after = lambda module: figures(module, p95_ms=900.0)
        optimiser = optimiser_in(world, VERIFYING, alert_queue=queue)
        await one(optimiser, tune(action_id="a-1"))

        def broken(what: str) -> None:
            raise OSError(what)

        world.touch = broken
        world.clock.advance(20)
        attempts = 0
        while optimiser.book.changes:
            await optimiser.verify()
            attempts += 1
        found = optimiser.book.find("a-1")
        assert found is not None
        assert (found.verdict, found.is_restored, attempts) == (Verdict.INCONCLUSIVE, False, 6)
        assert ("reason_code", "not_restored") in queue.get_nowait().parameters

    run(scenario())


def test_what_could_not_be_put_back_at_once_is_put_back_later() -> None:
    async def scenario() -> None:
        world = World()
        world.after = lambda module: figures(module, p95_ms=900.0)
        optimiser = optimiser_in(world, VERIFYING)
        await one(optimiser, tune(action_id="a-1"))
        world.touch = lambda what: (_ for _ in ()).throw(OSError(what))  # type: ignore[assignment]
        world.clock.advance(20)
        assert await optimiser.verify() == []
        assert (await one(optimiser, action(K.INCREASE_BUDGET))).reason_code == "conflict"
        world.touch = lambda what: None
        (ended,) = await optimiser.verify()
        assert (ended.verdict, world.thresholds["alpha"]["latency_p95_threshold_ms"]) == (Verdict.REVERTED, 200.0)

    run(scenario())
