"""The Prometheus rules and the dashboard: tested with promtool, and about series that the daemons really have."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
SHIPPED = CHECKOUT / "config/prometheus"
TESTS = sorted(Path(__file__).parent.glob("*_test.yml"))
RULES = sorted(SHIPPED.glob("*_rules.yml"))
_METRIC = re.compile(r"\bkloros_[a-z_]+|\basi_[a-z_]+")


def promtool(*arguments: str) -> str:
    if shutil.which("promtool") is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing; Debian has it in the package prometheus")
        pytest.skip("needs promtool (Debian: apt install prometheus)")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metrics_in_the_code() -> set[str]:
    """What the daemons register; counters read elsewhere get their `_total` from the library."""
    named = set()
    for path in (CHECKOUT / "kloros").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for kind, name in re.findall(r"(counter|gauge|histogram|counters_from)\(\s*\"((?:kloros|asi)_[a-z_]+)\"", text):
            named.add(name)
            if kind == "histogram":
                named |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
            if kind == "counters_from":
                named.add(f"{name}_total")
    return named


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_each_alert_fires_for_what_it_is_meant_for(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_the_shipped_files_are_valid() -> None:
    promtool("check", "config", str(SHIPPED / "prometheus.yml"))
    for path in RULES:
        promtool("check", "rules", str(path))


@pytest.mark.parametrize("path", [*RULES, SHIPPED / "grafana_dashboard.json"], ids=lambda path: path.name)
def test_rules_and_panels_ask_for_series_that_exist(path: Path) -> None:
    asked = set(_METRIC.findall(" ".join(_expressions(path))))
    assert asked
    assert asked - metrics_in_the_code() == set()


def _expressions(path: Path) -> list[str]:
    if path.suffix == ".json":
        panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
        return [target["expr"] for panel in panels for target in panel["targets"]]
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def test_every_alert_has_its_test_and_says_what_to_do() -> None:
    for path in RULES:
        tested = (Path(__file__).parent / f"{path.stem}_test.yml").read_text(encoding="utf-8")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                assert {"summary", "cure"} <= rule["annotations"].keys()
                if rule.get("for") != "1d":
                    assert f"alertname: {rule['alert']}\n        exp_alerts" in tested, rule["alert"]


def test_prometheus_scrapes_every_daemon() -> None:
    ports = tomllib.loads((CHECKOUT / "config/kloros.toml").read_text(encoding="utf-8"))["metrics"]["ports"]
    (job,) = yaml.safe_load((SHIPPED / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    scraped = {each["labels"]["daemon"]: each["targets"] for each in job["static_configs"]}
    assert scraped == {daemon: [f"127.0.0.1:{port}"] for daemon, port in ports.items()}
