"""A user's own daemon, staged, switched and started anew by a person with `kloros module`, without an optimiser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.suite import PROXY, Suite, suite

CONSUME = "kloros.cli"
OWN = """
[hot_swap.modules]
disk_report = "disk_report"
semantic_dedup = "semantic_dedup_consumer"
[hot_swap.units]
disk_report = "kloros-consumer@disk_report:DiskReport.service"
"""
SOURCE = """
from disk_words import COUNT

from kloros.daemon.consumer import Consumer


class DiskReport(Consumer):
    schedule = "disk_report"
    signal = "Q_TRIGGER_DISK_REPORT"
    interval_s = 3600.0

    def cycle(self, cycle):
        cycle.processed = COUNT
"""


class Own:
    """A daemon of one's own in a suite without optimiser, and a person beside it."""

    def __init__(self, running: Suite) -> None:
        self.running = running
        (running.folder / "config" / "optimiser_config.toml").write_text(OWN)
        self.write(running.folder, 1)
        running.start(PROXY)
        running.join("Q_CYCLE_REPORT", "HEARTBEAT")

    @staticmethod
    def write(folder: Path, count: int, source: str = SOURCE) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "disk_report.py").write_text(source)
        (folder / "disk_words.py").write_text(f"COUNT = {count}\n")
        return folder

    def kloros(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kloros.cli", "module", *arguments]
        running = self.running
        return subprocess.run(
            command, env=running.environment, cwd=running.folder, capture_output=True, text=True, check=False
        )

    def stage(self, folder: Path) -> str:
        done = self.kloros("stage", "disk_report", str(folder), "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["version"])

    def put_in_force(self, version: str) -> None:
        done = self.kloros("activate", "disk_report", version, "--direct")
        assert done.returncode == 0, done.stderr
        assert "restart it" in done.stdout

    def life(self) -> tuple[str | None, int]:
        """One life of the daemon: what its heart says it runs, and what a cycle of it counts."""
        process = self.running.start(CONSUME, "consume", "disk_report:DiskReport")
        heart = self.running.hear(lambda heard: heard.signal == "HEARTBEAT" and heard.facts.pid == process.pid)
        assert self.running.bus
        self.running.bus.emit("Q_TRIGGER_DISK_REPORT")
        report = self.running.hear(lambda heard: heard.signal == "Q_CYCLE_REPORT").facts
        process.terminate()
        assert process.wait(10) == 0
        return heart.facts.artifact, report.processed

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.running.log(CONSUME) if line["event"] == name]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    with suite(tmp_path) as running:
        yield Own(running)


def test_the_pointer_and_a_restart_are_all_that_new_code_takes(own: Own, tmp_path: Path) -> None:
    assert own.life() == (None, 1)
    first = own.stage(own.write(tmp_path / "package", 2))
    second = own.stage(own.write(tmp_path / "package", 3))
    own.put_in_force(first)
    assert own.life() == (f"disk_report/{first}", 2)
    own.put_in_force(second)
    assert own.life() == (f"disk_report/{second}", 3)
    assert own.kloros("rollback", "disk_report", "--direct").returncode == 0
    assert own.life() == (f"disk_report/{first}", 2)
    assert own.kloros("rollback", "disk_report", "--installed", "--direct").returncode == 0
    assert own.life() == (None, 1)
    assert [line["artifact"] for line in own.events("package_in_force")] == [
        f"disk_report/{version}" for version in (first, second, first)
    ]


def test_one_that_was_changed_after_it_was_staged_is_passed_over(own: Own, tmp_path: Path) -> None:
    version = own.stage(own.write(tmp_path / "package", 2))
    own.put_in_force(version)
    (tmp_path / "state/artifacts/disk_report" / version / "disk_words.py").write_text("COUNT = 99\n")
    assert own.life() == (None, 1)
    (refused,) = own.events("package_refused")
    assert "disk_words.py is not as the manifest says" in refused["reason"]
    assert "damaged" in own.kloros("list", "disk_report").stdout


def test_one_that_fails_at_its_import_says_where_and_ends_for_good(own: Own, tmp_path: Path) -> None:
    version = own.stage(own.write(tmp_path / "package", 2, "1 / 0\n"))
    own.put_in_force(version)
    process = own.running.start(CONSUME, "consume", "disk_report:DiskReport")
    assert process.wait(20) == 2
    log = (tmp_path / f"{CONSUME}.log").read_text()
    assert "importing it failed: ZeroDivisionError" in log
    assert f"artifacts/disk_report/{version}/disk_report.py, line 1" in log


@pytest.mark.parametrize(
    ("module", "files", "told"),
    [
        ("disk_report", {"disk_report.py": "def\n"}, "no Python"),
        ("disk_report", {"disk_words.py": "COUNT = 1\n"}, "it has no disk_report.py"),
        ("semantic_dedup", {"semantic_dedup.py": "COUNT = 1\n"}, "only a daemon of your own runs staged code"),
        ("disk_writer", {"disk_writer.py": "COUNT = 1\n"}, "not among the modules that may be swapped"),
    ],
)
def test_what_could_not_run_is_not_staged(
    own: Own, tmp_path: Path, module: str, files: dict[str, str], told: str
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    for name, source in files.items():
        (folder / name).write_text(source)
    done = own.kloros("stage", module, str(folder))
    assert done.returncode != 0
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert not os.path.lexists(tmp_path / "state/artifacts" / module)


def test_nothing_of_it_is_executed_when_it_is_staged(own: Own, tmp_path: Path) -> None:
    source = f"open({str(tmp_path / 'executed')!r}, 'w')\n" + SOURCE
    own.stage(own.write(tmp_path / "package", 2, source))
    assert not (tmp_path / "executed").exists()
