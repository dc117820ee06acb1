"""What the README tells a developer to write is run here, to the letter."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import SystemClock
from kloros.errors import BusUnreachable

ROOT = Path(__file__).parents[2]
KLOROS = [sys.executable, "-m", "kloros.cli"]
LIMIT_S = 20.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def block(language: str, containing: str) -> str:
    return next(text for text in blocks(language) if containing in text)


class Suite:
    """Processes of one suite in directories of its own, and an outsider who hears the bus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "config", folder / "config")
        places = {f"KLOROS_{name.upper()}_DIR": str(folder / name) for name in ("config", "state", "runtime")}
        self.environment = {**os.environ, **places, "PYTHONPATH": str(folder)}
        with (folder / "config" / "kloros.toml").open("r+") as file:
            text = file.read()
            file.seek(0)
            file.write(text.replace("enabled = true", "enabled = false"))
            file.truncate()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.bus: ZmqBus | None = None

    def start(self, *command: str) -> None:
        self._processes.append(
            subprocess.Popen([sys.executable, "-m", *command], env=self.environment, cwd=self.folder)
        )

    def join(self, *topics: str) -> ZmqBus:
        """An outsider on the bus, as soon as there is one."""
        (self.folder / "runtime").mkdir(exist_ok=True)
        self.bus = ZmqBus(Endpoints.for_runtime_dir(self.folder / "runtime"), name="outsider")
        for topic in topics:
            self.bus.subscribe(topic)
        self.bus.join(LIMIT_S)
        return self.bus

    def hear(self, wanted: Callable[[Message], bool]) -> Message:
        """The next message that is wanted."""
        assert self.bus
        clock = SystemClock()
        end_s = clock.monotonic_s() + LIMIT_S
        while clock.monotonic_s() < end_s:
            self.bus.pollables()[0].poll(100)
            for message in self.bus.receive():
                if wanted(message):
                    return message
        raise AssertionError("it was not heard in time")

    def close(self) -> list[int]:
        for process in reversed(self._processes):
            process.terminate()
        codes = [process.wait(10) for process in self._processes]
        if self.bus:
            self.bus.close()
        return codes


@contextmanager
def suite(folder: Path) -> Iterator[Suite]:
    running = Suite(folder)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[Suite]:
    with suite(tmp_path) as running:
        running.start("kloros.orchestration.chem_proxy_daemon")
        running.join("Q_CYCLE_REPORT", "HEARTBEAT", "Q_SCHEDULE_TICK")
        yield running


def test_the_daemon_of_the_readme_works_and_is_about_a_dozen_lines(reports: Suite) -> None:
    source = block("python", "class DiskReport")
    assert len([line for line in source.splitlines() if line.strip()]) <= 14
    (reports.folder / "disk_report.py").write_text(source)
    with (reports.folder / "config" / "scheduler_config.toml").open("a") as file:
        file.write("\n" + block("toml", "entries.disk_report"))
    reports.start("kloros.orchestration.scheduler_daemon")
    tick = reports.hear(lambda message: message.signal == "Q_SCHEDULE_TICK")
    assert tick.facts.entries["disk_report"].signal == "Q_TRIGGER_DISK_REPORT"
    reports.start("kloros.cli", "consume", "disk_report:DiskReport")
    reports.hear(lambda message: message.signal == "HEARTBEAT" and message.facts.zooid == "disk_report")
    assert reports.bus
    reports.bus.emit("Q_TRIGGER_DISK_REPORT")
    report = reports.hear(lambda message: message.signal == "Q_CYCLE_REPORT").facts
    assert (report.daemon, report.source, report.outcome, report.processed) == ("disk_report", "injected", "ok", 1)


def test_the_plain_script_of_the_readme_makes_introspection_react_at_once(reports: Suite) -> None:
    reports.start("kloros.consumers.introspection_daemon")
    reports.hear(lambda message: message.signal == "HEARTBEAT" and message.facts.zooid == "introspection_daemon")
    (reports.folder / "inject.py").write_text(block("python", "ChemPub().emit"))
    subprocess.run([sys.executable, "inject.py"], env=reports.environment, cwd=reports.folder, check=True, timeout=20)
    report = reports.hear(lambda message: message.signal == "Q_CYCLE_REPORT").facts
    assert (report.daemon, report.source) == ("introspection_daemon", "injected")
