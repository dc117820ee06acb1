"""The twelve tests that the self-optimiser document names."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from support.optimising import action, run

from kloros.clock import VirtualClock
from kloros.optimisation.model import (
    ActionKind,
    DetectorConfig,
    EnactmentStatus,
    ImprovementAction,
    OptimiserConfig,
    OrchestratorOutcome,
    OrchestratorRequest,
    OrchestratorResult,
)
from kloros.optimisation.optimiser import AsyncSelfOptimiser, NullOptimiser, SelfOptimiser

S = EnactmentStatus


class Orchestrator:
    """Swaps as it is told to."""

    def __init__(self, outcome: OrchestratorOutcome | Exception = OrchestratorOutcome.SUCCESS) -> None:
        self.outcome = outcome
        self.requests: list[OrchestratorRequest] = []

    async def orchestrate_swap(self, request: OrchestratorRequest) -> OrchestratorResult:
        self.requests.append(request)
        await asyncio.sleep(0)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return OrchestratorResult(self.outcome, "done")


def cycle() -> Any:
    """A cognitive cycle as the document has it."""
    return SimpleNamespace(_detector_config=DetectorConfig(), _budget_map={})


def test_flag_for_review_always_success() -> None:
    async def scenario() -> None:
        queue: asyncio.Queue[ImprovementAction] = asyncio.Queue()
        config = OptimiserConfig(max_enactments_per_cycle=0, dry_run=True, default_mode="off")
        optimiser = AsyncSelfOptimiser(alert_queue=queue, config=config)
        optimiser.pause("for the test")
        flags = [action(ActionKind.FLAG_FOR_REVIEW) for _ in range(20)]
        records = await optimiser.enact(flags)
        assert [each.status for each in records] == [S.SUCCESS] * 20
        assert queue.qsize() == 20

    run(scenario())


def test_no_op_returns_skipped() -> None:
    records = run(AsyncSelfOptimiser().enact([action(ActionKind.NO_OP)]))
    assert [each.status for each in records] == [S.SKIPPED]


def test_dry_run_skips_all() -> None:
    async def scenario() -> None:
        target, orchestrator = cycle(), Orchestrator()
        optimiser = AsyncSelfOptimiser(orchestrator, target, config=OptimiserConfig(dry_run=True))
        kinds = [kind for kind in ActionKind if kind is not ActionKind.FLAG_FOR_REVIEW]
        records = await optimiser.enact([action(kind) for kind in kinds * 3])
        assert len(records) == len(kinds) * 3
        assert {each.status for each in records} == {S.SKIPPED}
        assert all("dry-run" in each.detail for each in records)
        assert target == cycle()
        assert not orchestrator.requests

    run(scenario())


def test_rate_limit_gate() -> None:
    async def scenario() -> None:
        optimiser = AsyncSelfOptimiser(cognitive_cycle=cycle())
        (first,) = await optimiser.enact([action(ActionKind.TUNE_THRESHOLD)])
        (second,) = await optimiser.enact([action(ActionKind.TUNE_THRESHOLD)])
        (other,) = await optimiser.enact([action(ActionKind.TUNE_THRESHOLD, "beta")])
        assert (first.status, second.status, other.status) == (S.SUCCESS, S.RATE_LIMITED, S.SUCCESS)

    run(scenario())


def test_rate_limit_expires() -> None:
    async def scenario() -> None:
        clock = VirtualClock(monotonic_s=1.0)
        optimiser = AsyncSelfOptimiser(cognitive_cycle=cycle(), clock=clock)
        statuses = []
        for wait_s in (0.0, 59.9, 0.2):
            clock.advance(wait_s)
            statuses += [each.status for each in await optimiser.enact([action(ActionKind.INCREASE_BUDGET)])]
        assert statuses == [S.SUCCESS, S.RATE_LIMITED, S.SUCCESS]

    run(scenario())


def test_hot_swap_cap() -> None:
    async def scenario() -> None:
        orchestrator = Orchestrator()
        optimiser = AsyncSelfOptimiser(orchestrator, config=OptimiserConfig(max_hot_swap_per_cycle=1))
        swaps = [action(ActionKind.HOT_SWAP_MODULE, module) for module in ("alpha", "beta")]
        records = await optimiser.enact(swaps)
        assert [each.status for each in records] == [S.SUCCESS, S.SKIPPED]
        assert "cap" in records[1].detail
        assert len(orchestrator.requests) == 1

    run(scenario())


def test_max_enactments_cap() -> None:
    async def scenario() -> None:
        for kind, target in (
            (ActionKind.TUNE_THRESHOLD, cycle()),
            (ActionKind.NO_OP, None),
            (ActionKind.TUNE_THRESHOLD, None),
        ):
            optimiser = AsyncSelfOptimiser(cognitive_cycle=target, config=OptimiserConfig(max_enactments_per_cycle=2))
            records = await optimiser.enact([action(kind, f"module_{number}") for number in range(5)])
            assert len(records) == 2
            assert (await optimiser.stats())["deferred"] == 3

    run(scenario())


def test_orchestrator_success() -> None:
    orchestrator = Orchestrator()
    (record,) = run(AsyncSelfOptimiser(orchestrator).enact([action(ActionKind.HOT_SWAP_MODULE)]))
    assert record.status is S.SUCCESS
    assert record.duration_s >= 0
    assert orchestrator.requests[0].module_id == "alpha"


def test_orchestrator_failure() -> None:
    optimiser = AsyncSelfOptimiser(Orchestrator(RuntimeError("it burst")))
    (record,) = run(optimiser.enact([action(ActionKind.HOT_SWAP_MODULE)]))
    assert record.status is S.FAILED
    assert "it burst" in record.detail


def test_tune_threshold_adjusts_config() -> None:
    target = cycle()
    tune = action(ActionKind.TUNE_THRESHOLD, parameters={"suggested_delta": "0.2"})
    (record,) = run(AsyncSelfOptimiser(cognitive_cycle=target).enact([tune]))
    assert record.status is S.SUCCESS
    assert target._detector_config == DetectorConfig(latency_p95_threshold_ms=240.0)


def test_concurrent_enact_calls() -> None:
    async def scenario() -> None:
        orchestrator = Orchestrator()
        optimiser = AsyncSelfOptimiser(orchestrator)
        swap = [action(ActionKind.HOT_SWAP_MODULE)]
        found = await asyncio.gather(*(optimiser.enact(swap) for _ in range(3)))
        statuses = sorted(record.status for records in found for record in records)
        assert statuses == [S.RATE_LIMITED, S.RATE_LIMITED, S.SUCCESS]
        assert len(orchestrator.requests) == 1
        assert (await optimiser.stats())["enact_calls"] == 3

    run(scenario())


def test_reset_clears_state() -> None:
    async def scenario() -> None:
        optimiser = AsyncSelfOptimiser(cognitive_cycle=cycle())
        await optimiser.enact([action(ActionKind.TUNE_THRESHOLD)])
        assert await optimiser.stats()
        await optimiser.reset()
        assert await optimiser.stats() == {}
        (again,) = await optimiser.enact([action(ActionKind.TUNE_THRESHOLD)])
        assert again.status is S.SUCCESS

    run(scenario())


def test_both_are_self_optimisers_and_the_null_one_does_nothing() -> None:
    async def scenario() -> None:
        null = NullOptimiser()
        assert isinstance(null, SelfOptimiser)
        assert isinstance(AsyncSelfOptimiser(), SelfOptimiser)
        assert await null.enact([action(ActionKind.TUNE_THRESHOLD)]) == []
        assert await null.stats() == {}
        await null.reset()

    run(scenario())
