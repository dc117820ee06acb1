"""The optimiser's alerts: tested with promtool, and about series that it really has, from the start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from kloros.optimisation.model import ActionKind
from kloros.optimisation.optimiser_metrics import PrometheusMetrics
from kloros.telemetry.metrics import Metrics

CHECKOUT = Path(__file__).parents[2]
RULES = CHECKOUT / "config/prometheus/optimiser_rules.yml"
TEST = Path(__file__).parent / "optimiser_rules_test.yml"


def promtool(*arguments: str, fails: bool = False) -> str:
    if shutil.which("promtool") is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing; Debian has it in the package prometheus")
        pytest.skip("needs promtool (Debian: apt install prometheus)")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert bool(done.returncode) is fails, done.stdout + done.stderr
    return done.stdout


def expressions() -> dict[str, str]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def test_each_alert_fires_for_what_it_is_meant_for() -> None:
    promtool("check", "rules", str(RULES))
    assert "SUCCESS" in promtool("test", "rules", str(TEST))


def test_the_ratios_as_the_document_has_them_would_not_pass(tmp_path: Path) -> None:
    """With each series divided by itself, the same tests fail: they tell a right ratio from one that is always 1."""
    naive = re.sub(r"sum without\(\w+\) \((rate\([^)]*\))\)", r"\1", RULES.read_text(encoding="utf-8"))
    assert "sum without(status) (rate" not in naive
    (tmp_path / "rules.yml").write_text(naive)
    tests = yaml.safe_load(TEST.read_text(encoding="utf-8")) | {"rule_files": ["rules.yml"]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", str(tmp_path / "test.yml"), fails=True)


def test_both_sides_of_each_ratio_are_summed_alike_and_above_a_floor() -> None:
    for label, expression in zip(("status", "outcome"), expressions().values(), strict=True):
        assert expression.count(f"sum without({label})") == 3
        assert re.search(r"and sum without\(\w+\) \(increase\(.*\)\) > \d", expression)


def test_every_series_that_is_asked_for_is_there_at_zero_before_anything_happens() -> None:
    metrics = Metrics()
    PrometheusMetrics(metrics).know("dedup")
    exposed = generate_latest(metrics.registry).decode()
    for kind in ActionKind:
        for status in ("SUCCESS", "PARTIAL", "FAILED"):
            series = f'asi_optimiser_actions_enacted_total{{action_kind="{kind}",status="{status}"}} 0.0'
            assert series in exposed
    for outcome in ("SUCCESS", "DEP_FAILED", "SWAP_ERROR"):
        assert f'asi_optimiser_hot_swaps_total{{module="dedup",outcome="{outcome}"}} 0.0' in exposed
