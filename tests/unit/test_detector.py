"""What is weak, and how badly."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.optimising import figures, run

from kloros.optimisation.detector import Detector, severity_of_errors, severity_of_latency
from kloros.optimisation.model import (
    ActionKind,
    DetectorConfig,
    Figures,
    ImprovementAction,
    Severity,
    Weakness,
    WeaknessKind,
)
from kloros.optimisation.optimiser import AsyncSelfOptimiser

W, V = WeaknessKind, Severity


def found(detector: Detector, report: Figures) -> dict[WeaknessKind, Weakness]:
    return {each.kind: each for each in detector.detect([report])}


@pytest.mark.parametrize(
    ("ratio", "severity"),
    [(1.0, V.LOW), (1.5, V.LOW), (1.51, V.MEDIUM), (3.0, V.MEDIUM), (3.01, V.HIGH), (5.0, V.HIGH), (5.01, V.CRITICAL)],
)
def test_how_bad_a_latency_is(ratio: float, severity: Severity) -> None:
    assert severity_of_latency(ratio) is severity


@pytest.mark.parametrize(
    ("ratio", "severity"), [(1.1, V.MEDIUM), (2.0, V.MEDIUM), (2.01, V.HIGH), (3.99, V.HIGH), (4.0, V.CRITICAL)]
)
def test_how_bad_an_error_rate_is(ratio: float, severity: Severity) -> None:
    assert severity_of_errors(ratio) is severity


def test_severities_as_the_planner_counts_them() -> None:
    assert [each.share for each in V] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"p95_ms": 200.0}, {}),
        ({"p95_ms": 200.1}, {W.HIGH_LATENCY: V.LOW}),
        ({"p95_ms": 150.0, "p99_ms": 1600.0}, {W.HIGH_LATENCY: V.HIGH}),
        ({"p95_ms": 1001.0}, {W.HIGH_LATENCY: V.CRITICAL}),
        ({"calls": 100, "errors": 5}, {}),
        ({"calls": 100, "errors": 6}, {W.HIGH_ERROR_RATE: V.MEDIUM}),
        ({"calls": 100, "errors": 20}, {W.HIGH_ERROR_RATE: V.CRITICAL}),
        ({"throughput_rps": 1.0}, {}),
        ({"throughput_rps": 0.5}, {W.LOW_THROUGHPUT: V.MEDIUM}),
        ({"p95_ms": 201.0, "calls": 100, "errors": 20},
         {W.HIGH_LATENCY: V.LOW, W.HIGH_ERROR_RATE: V.CRITICAL, W.DEGRADED: V.CRITICAL}),
        ({"calls": 4, "errors": 4, "p95_ms": 9000.0}, {}),
        ({"calls": 0}, {W.DEGRADED: V.HIGH}),
    ],
)  # fmt: skip
def test_figures_against_thresholds(fields: dict[str, Any], kinds: dict[WeaknessKind, Severity]) -> None:
    assert {kind: each.severity for kind, each in found(Detector(), figures(**fields)).items()} == kinds


def test_the_worst_comes_first() -> None:
    report = [figures("a", p95_ms=250.0), figures("b", p95_ms=5000.0), figures("c", p95_ms=500.0)]
    assert [each.module_name for each in Detector().detect(report)] == ["b", "c", "a"]


def test_a_baseline_follows_slowly_and_does_not_learn_from_the_spike_it_reports() -> None:
    detector = Detector()
    detector.detect([figures(p95_ms=50.0)])
    detector.detect([figures(p95_ms=60.0)])
    assert detector.baselines["alpha"].p95_ms == pytest.approx(51.0)
    for _ in range(50):
        spike = found(detector, figures(p95_ms=110.0))[W.LATENCY_SPIKE]
        assert spike.ratio == pytest.approx(110 / 51)
    assert detector.baselines["alpha"].p95_ms == pytest.approx(51.0)
    assert W.LATENCY_SPIKE not in found(detector, figures(p95_ms=51.0))


def test_what_is_next_to_nothing_and_doubles_is_no_spike() -> None:
    detector = Detector()
    detector.detect([figures(p95_ms=2.0)])
    assert not found(detector, figures(p95_ms=39.0))
    assert W.LATENCY_SPIKE in found(detector, figures(p95_ms=41.0))


def test_a_first_report_is_no_spike_and_too_few_samples_teach_nothing() -> None:
    detector = Detector()
    assert not found(detector, figures(p95_ms=199.0))
    assert not found(Detector(), figures(calls=4, p95_ms=199.0))
    fresh = Detector()
    fresh.detect([figures(calls=4, p95_ms=1.0)])
    assert not fresh.baselines


def test_a_tuned_threshold_is_the_one_that_is_read_for_its_module_only() -> None:
    detector = Detector()
    optimiser = AsyncSelfOptimiser(thresholds=detector)
    slow = [figures("alpha", p95_ms=250.0), figures("beta", p95_ms=250.0)]
    assert [each.module_name for each in detector.detect(slow)] == ["alpha", "beta"]
    parameters = (("metric", "latency_p95_threshold_ms"), ("delta", "0.3"))
    tune = ImprovementAction("alpha", ActionKind.TUNE_THRESHOLD, 0.5, "too many alarms", parameters)
    run(optimiser.enact([tune]))
    assert [each.module_name for each in detector.detect(slow)] == ["beta"]
    assert detector.tuned == {"alpha": {"latency_p95_threshold_ms": 260.0}}
    again = Detector(tuned=detector.tuned, baselines=detector.baselines)
    assert [each.module_name for each in again.detect(slow)] == ["beta"]


def test_what_is_tuned_back_is_no_longer_tuned() -> None:
    detector = Detector()
    detector.set_threshold("alpha", "error_rate_threshold", 0.1)
    detector.set_threshold("alpha", "error_rate_threshold", 0.05)
    assert detector.tuned == {}
    assert detector.threshold("alpha", "severity_weights") is None


@pytest.mark.parametrize(("metric", "value"), [("severity_weights", 1.0), ("error_rate_threshold", float("nan"))])
def test_what_is_no_threshold_cannot_be_set(metric: str, value: float) -> None:
    with pytest.raises(ValueError, match=metric):
        Detector().set_threshold("alpha", metric, value)


@pytest.mark.parametrize(
    "fields",
    [{"error_rate_threshold": -1.0}, {"baseline_window": 0}, {"min_samples": 0}, {"severity_weights": (1, 2)}],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        DetectorConfig(**fields)


@given(st.lists(st.builds(figures, calls=st.integers(0, 100), p95_ms=st.floats(0, 1e6)), max_size=20))
def test_every_weakness_names_figures_that_are_beyond_their_threshold(reports: list[Figures]) -> None:
    detector = Detector()
    for report in reports:
        for each in detector.detect([report]):
            assert each.ratio >= 1
            assert each.score > 0
            msgspec.json.encode(each)
