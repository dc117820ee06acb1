"""What the README tells a developer to write is run here, to the letter."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.suite import INTROSPECTION, PROXY, ROOT, SCHEDULER, Suite, suite


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def block(language: str, containing: str) -> str:
    return next(text for text in blocks(language) if containing in text)


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[Suite]:
    with suite(tmp_path) as running:
        running.start(PROXY)
        running.join("Q_CYCLE_REPORT", "HEARTBEAT", "Q_SCHEDULE_TICK")
        yield running


def test_the_daemon_of_the_readme_works_and_is_about_a_dozen_lines(reports: Suite) -> None:
    source = block("python", "class DiskReport")
    assert len([line for line in source.splitlines() if line.strip()]) <= 14
    (reports.folder / "disk_report.py").write_text(source)
    with (reports.folder / "config" / "scheduler_config.toml").open("a") as file:
        file.write("\n" + block("toml", "entries.disk_report"))
    reports.start(SCHEDULER)
    tick = reports.hear(lambda message: message.signal == "Q_SCHEDULE_TICK")
    assert tick.facts.entries["disk_report"].signal == "Q_TRIGGER_DISK_REPORT"
    reports.start("kloros.cli", "consume", "disk_report:DiskReport")
    reports.hear(lambda message: message.signal == "HEARTBEAT" and message.facts.zooid == "disk_report")
    assert reports.bus
    reports.bus.emit("Q_TRIGGER_DISK_REPORT")
    report = reports.hear(lambda message: message.signal == "Q_CYCLE_REPORT").facts
    assert (report.daemon, report.source, report.outcome, report.processed) == ("disk_report", "injected", "ok", 1)


def test_the_plain_script_of_the_readme_makes_introspection_react_at_once(reports: Suite) -> None:
    reports.start(INTROSPECTION)
    reports.hear(lambda message: message.signal == "HEARTBEAT" and message.facts.zooid == "introspection_daemon")
    (reports.folder / "inject.py").write_text(block("python", "ChemPub().emit"))
    subprocess.run([sys.executable, "inject.py"], env=reports.environment, cwd=reports.folder, check=True, timeout=20)
    report = reports.hear(lambda message: message.signal == "Q_CYCLE_REPORT").facts
    assert (report.daemon, report.source) == ("introspection_daemon", "injected")
