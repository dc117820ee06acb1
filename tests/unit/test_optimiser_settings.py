"""config/optimiser_config.toml says what holds without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros.config import convert, load
from kloros.errors import ConfigError
from kloros.optimisation.model import ActionKind
from kloros.optimisation.settings import OptimiserSettings, detector_of, enacting

FILE = Path(__file__).parents[2] / "config" / "optimiser_config.toml"


def test_the_file_has_the_defaults() -> None:
    assert load(FILE, OptimiserSettings) == OptimiserSettings()


def test_a_first_installation_only_observes() -> None:
    config = enacting(OptimiserSettings())
    changing = [kind for kind in ActionKind if kind not in (ActionKind.NO_OP, ActionKind.FLAG_FOR_REVIEW)]
    assert {config.mode_of(kind) for kind in changing} == {"observe"}


def test_a_module_may_have_thresholds_of_its_own_and_the_rest_stay() -> None:
    tables = {"modules": {"slow": {"latency_p95_threshold_ms": 9000.0, "latency_p99_threshold_ms": 9500.0}}}
    settings = convert(tables, OptimiserSettings, FILE)
    assert detector_of(settings, "slow").latency_p95_threshold_ms == 9000.0
    assert detector_of(settings, "slow").error_rate_threshold == settings.detector.error_rate_threshold
    assert detector_of(settings, "other").latency_p95_threshold_ms == settings.detector.latency_p95_threshold_ms


@pytest.mark.parametrize(
    "tables",
    [
        {"modes": {"hot_swap_module": "always"}},
        {"bounds": {"budget_step": 1000.0}},
        {"limits": {"unhealthy_share": 2.0}},
    ],
)
def test_what_makes_no_sense_is_refused(tables: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ConfigError):
        convert(tables, OptimiserSettings, FILE)
