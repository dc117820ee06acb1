"""What to do about what is weak."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.optimising import SHA256

from kloros.optimisation.gates import Answer, GateState, Standing, decide
from kloros.optimisation.model import (
    COSTS,
    ActionKind,
    ImprovementAction,
    OptimiserConfig,
    Severity,
    Weakness,
    WeaknessKind,
)
from kloros.optimisation.planner import REMEDIES, PlannerConfig, plan, priority_of

K, W, V = ActionKind, WeaknessKind, Severity
STAGED = {name: (f"{name}/v2", SHA256) for name in ("alpha", "beta", "gamma")}


def weak(kind: WeaknessKind, severity: Severity = V.CRITICAL, module: str = "alpha", samples: int = 20) -> Weakness:
    metric = "min_throughput_rps" if kind is W.LOW_THROUGHPUT else "spike_ratio_threshold"
    return Weakness(module, kind, severity, 3.0, 1.0, 3.0, samples, metric, 1.0, "it is slow")


@pytest.mark.parametrize(
    ("severity", "samples", "kind", "expected"),
    [
        (1.0, 20, K.HOT_SWAP_MODULE, 0.79), (1.0, 10, K.HOT_SWAP_MODULE, 0.29), (0.25, 20, K.HOT_SWAP_MODULE, 0.04),
        (0.5, 20, K.INCREASE_BUDGET, 0.41), (0.75, 40, K.REDUCE_LOAD, 0.69), (0.25, 20, K.TUNE_THRESHOLD, 0.235),
        (0.25, 0, K.HOT_SWAP_MODULE, 0.0), (1.0, 20, K.FLAG_FOR_REVIEW, 0.997), (1.0, 20, K.NO_OP, 1.0),
    ],
)  # fmt: skip
def test_the_formula(severity: float, samples: int, kind: ActionKind, expected: float) -> None:
    assert priority_of(severity, samples, kind, 20) == pytest.approx(expected)


@given(st.floats(0, 1), st.integers(0, 10**9), st.sampled_from(list(K)), st.integers(0, 1000))
def test_a_priority_is_from_0_to_1(severity: float, samples: int, kind: ActionKind, least: int) -> None:
    assert 0.0 <= priority_of(severity, samples, kind, least) <= 1.0


@pytest.mark.parametrize(
    ("kind", "remedies"),
    [
        (W.HIGH_LATENCY, {K.HOT_SWAP_MODULE, K.INCREASE_BUDGET}),
        (W.HIGH_ERROR_RATE, {K.HOT_SWAP_MODULE, K.FLAG_FOR_REVIEW}),
        (W.LOW_THROUGHPUT, {K.REDUCE_LOAD, K.TUNE_THRESHOLD}),
        (W.LATENCY_SPIKE, {K.INCREASE_BUDGET, K.TUNE_THRESHOLD}),
        (W.DEGRADED, {K.FLAG_FOR_REVIEW, K.HOT_SWAP_MODULE}),
    ],
)
def test_what_helps_against_what(kind: WeaknessKind, remedies: set[ActionKind]) -> None:
    assert {each.action_kind for each in plan([weak(kind)], 0.0, versions=STAGED)} == remedies
    assert set(REMEDIES[kind]) == remedies


def test_a_swap_is_no_remedy_where_nothing_is_staged() -> None:
    assert {each.action_kind for each in plan([weak(W.HIGH_LATENCY)], 0.0)} == {K.INCREASE_BUDGET}


@pytest.mark.parametrize(("also", "aim"), [((), "latency"), ((W.HIGH_ERROR_RATE,), "errors")])
def test_more_time_for_who_fails_is_to_make_it_fail_less(also: tuple[WeaknessKind, ...], aim: str) -> None:
    found = plan([weak(W.HIGH_LATENCY), *(weak(kind) for kind in also)], 0.0)
    (budget,) = (each for each in found if each.action_kind is K.INCREASE_BUDGET)
    assert dict(budget.parameters)["aim"] == aim


def test_it_is_sorted_first_and_then_cut() -> None:
    report = [weak(W.LATENCY_SPIKE, V.LOW, "alpha"), weak(W.LATENCY_SPIKE, V.CRITICAL, "beta"),
              weak(W.LATENCY_SPIKE, V.HIGH, "gamma")]  # fmt: skip
    found = plan(report, 0.0)
    assert [(each.module_name, each.action_kind) for each in found] == [
        ("beta", K.TUNE_THRESHOLD), ("beta", K.INCREASE_BUDGET), ("gamma", K.TUNE_THRESHOLD)
    ]  # fmt: skip
    assert plan(report[::-1], 0.0) == found


def test_below_the_threshold_nothing_is_proposed() -> None:
    assert plan([weak(W.HIGH_LATENCY, V.LOW)], 0.0, versions=STAGED) == []
    assert plan([weak(W.LATENCY_SPIKE, V.LOW)], 0.0, PlannerConfig(threshold=0.236)) == []


@pytest.mark.parametrize("answer", [False, None, 1, "yes", RuntimeError("the gate is broken")])
def test_what_the_safety_gate_does_not_allow_becomes_a_flag(answer: Any) -> None:
    def gate(action: ImprovementAction) -> bool:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    (flag,) = plan([weak(W.HIGH_LATENCY)], 0.0, is_allowed=gate)
    assert flag.action_kind is K.FLAG_FOR_REVIEW
    assert ("refused_kind", "INCREASE_BUDGET") in flag.parameters
    assert "INCREASE_BUDGET" in flag.rationale
    assert [each.action_kind for each in plan([weak(W.HIGH_LATENCY)], 0.0, is_allowed=lambda _: True)] == [
        K.INCREASE_BUDGET
    ]


weaknesses = st.lists(
    st.builds(
        weak, st.sampled_from(list(W)), st.sampled_from(list(V)), st.sampled_from(["alpha", "beta"]), st.integers(0, 50)
    ),
    max_size=10,
)


@given(weaknesses, st.floats(0, 1e9))
def test_every_plan_passes_its_own_gates_is_short_and_says_the_same_again(
    report: list[Weakness], wall_s: float
) -> None:
    found = plan(report, wall_s, versions=STAGED)
    assert found == plan(report, wall_s, versions=STAGED)
    assert len(found) <= 3
    assert [each.priority for each in found] == sorted((each.priority for each in found), reverse=True)
    assert len({each.action_id for each in found}) == len(found)
    standing = Standing(now_us=1, wall_us=round(wall_s * 1e6))
    for each in found:
        decision = decide(GateState(), each, standing, OptimiserConfig())
        assert decision.answer in (Answer.GO, Answer.FLAG), decision
        assert each.priority >= 0.2


def test_the_costs_are_the_documents() -> None:
    assert [COSTS[kind] for kind in K] == [0.05, 0.30, 0.20, 0.70, 0.01, 0.0]
