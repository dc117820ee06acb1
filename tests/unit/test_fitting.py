"""Of what is planned, what is done now."""

from __future__ import annotations

from typing import Any

import pytest
from support.optimising import action, figures

from kloros.optimisation.fitting import SPIKE_LASTS_WINDOWS, SUITE, Fitting, everywhere, standing, what_of
from kloros.optimisation.model import ActionKind, ImprovementAction, Severity, Weakness, WeaknessKind
from kloros.optimisation.planner import plan

K, W = ActionKind, WeaknessKind
WINDOW_S = 900.0


def weak(kind: WeaknessKind, module: str = "alpha") -> Weakness:
    return Weakness(module, kind, Severity.CRITICAL, 3.0, 1.0, 3.0, 20, "spike_ratio_threshold", 1.0, "it is slow")


def fitting(*weaknesses: Weakness, p95_ms: float = 4000.0, spiking_s: float = 0.0, **more: Any) -> Fitting:
    fields = {"tried": frozenset(), "budget_s": lambda module: 4.0, **more}
    return Fitting(
        weaknesses, {name: figures(name, p95_ms=p95_ms) for name in ("alpha", "beta")}, WINDOW_S,
        lambda module: spiking_s, **fields,
    )  # fmt: skip


def chosen(of: Fitting, was_proposed: Any = lambda each: False, at_most: int = 3) -> list[ImprovementAction]:
    return of.choose(plan(of.weaknesses, 0.0, is_allowed=of.is_allowed), was_proposed, at_most)


def kinds(found: list[ImprovementAction]) -> list[tuple[str, ActionKind]]:
    return [(each.module_name, each.action_kind) for each in found]


def test_of_what_can_help_the_least_costly_is_done_and_one_thing_at_a_time() -> None:
    both = fitting(weak(W.HIGH_LATENCY), weak(W.LOW_THROUGHPUT))
    assert kinds(chosen(both)) == [("alpha", K.REDUCE_LOAD)]
    tried = fitting(weak(W.HIGH_LATENCY), weak(W.LOW_THROUGHPUT), tried={("alpha", "REDUCE_LOAD")})
    assert kinds(chosen(tried)) == [("alpha", K.INCREASE_BUDGET)]


def test_a_person_is_asked_once_nothing_is_left_that_could_help() -> None:
    spent = {("alpha", "REDUCE_LOAD"), ("alpha", "INCREASE_BUDGET")}
    (flag,) = chosen(fitting(weak(W.HIGH_LATENCY), weak(W.LOW_THROUGHPUT), tried=spent))
    assert flag.action_kind is K.FLAG_FOR_REVIEW
    assert "did not help lately" in flag.rationale


def test_more_time_is_for_who_runs_out_of_it_and_then_to_make_it_fail_less() -> None:
    (flag,) = chosen(fitting(weak(W.HIGH_LATENCY), p95_ms=3500.0))
    assert (flag.action_kind, "cannot help" in flag.rationale) == (K.FLAG_FOR_REVIEW, True)
    (near,) = chosen(fitting(weak(W.HIGH_LATENCY), p95_ms=3700.0))
    (over,) = chosen(fitting(weak(W.HIGH_LATENCY), p95_ms=4000.0))
    assert [dict(each.parameters)["aim"] for each in (near, over)] == ["latency", "errors"]
    unknown = fitting(weak(W.HIGH_LATENCY), p95_ms=1.0, budget_s=lambda module: None)
    assert kinds(chosen(unknown)) == [("alpha", K.INCREASE_BUDGET)]


@pytest.mark.parametrize(
    ("also", "windows", "tunes"),
    [((), SPIKE_LASTS_WINDOWS, True), ((), 3.9, False), ((W.HIGH_ERROR_RATE,), 100.0, False)],
)
def test_the_detector_is_numbed_only_where_a_spike_has_become_how_things_are(
    also: tuple[WeaknessKind, ...], windows: float, tunes: bool
) -> None:
    weaknesses = [weak(kind) for kind in (W.LATENCY_SPIKE, *also)]
    found = kinds(chosen(fitting(*weaknesses, p95_ms=100.0, spiking_s=windows * WINDOW_S)))
    assert (("alpha", K.TUNE_THRESHOLD) in found) is tunes
    assert not [each for each in found if each[1] is K.FLAG_FOR_REVIEW] or also


def test_a_flag_goes_with_a_change_and_what_was_proposed_waits() -> None:
    ill = fitting(weak(W.HIGH_LATENCY), weak(W.HIGH_ERROR_RATE), weak(W.HIGH_LATENCY, "beta"))
    assert set(kinds(chosen(ill))) == {
        ("alpha", K.INCREASE_BUDGET), ("alpha", K.FLAG_FOR_REVIEW), ("beta", K.INCREASE_BUDGET)
    }  # fmt: skip
    assert kinds(chosen(ill, lambda each: each.module_name == "alpha")) == [("beta", K.INCREASE_BUDGET)]
    assert len(chosen(ill, at_most=1)) == 1


def test_since_when_something_is_weak_is_told_from_look_to_look() -> None:
    first = standing({}, [weak(W.HIGH_LATENCY), weak(W.DEGRADED)], 5)
    assert first == {"alpha|HIGH_LATENCY": 5, "alpha|DEGRADED": 5}
    assert standing(first, [weak(W.HIGH_LATENCY)], 9) == {what_of(weak(W.HIGH_LATENCY)): 5}


def test_where_everybody_is_weak_one_flag_speaks_for_all() -> None:
    flag = everywhere(6, 11, 1000.0)
    assert (flag.module_name, flag.action_kind, flag.priority) == (SUITE, K.FLAG_FOR_REVIEW, 1.0)
    assert kinds(fitting().choose([flag, action(K.FLAG_FOR_REVIEW, SUITE)], lambda each: False, 3)) == [
        (SUITE, K.FLAG_FOR_REVIEW)
    ]
