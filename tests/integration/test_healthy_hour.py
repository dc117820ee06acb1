"""An hour of a healthy machine, simulated: nobody asks anything; and what comes back again and again is asked once."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.consumer_examples import consumers
from support.whole_suite import WholeSuite, whole_suite

from kloros.clock import VirtualClock
from kloros.consumers.introspection.scanners import disk
from kloros.consumers.introspection.scanners.base import Scanner
from kloros.consumers.introspection.scanners.bus_health import BusHealthScanner
from kloros.consumers.introspection.scanners.descriptors import DescriptorsScanner
from kloros.consumers.introspection.scanners.disk import DiskScanner
from kloros.consumers.introspection.scanners.journal import JournalScanner
from kloros.consumers.introspection.scanners.memory import MemoryScanner
from kloros.consumers.introspection.scanners.pressure import PressureScanner
from kloros.consumers.introspection.scanners.registry import IntrospectionSettings
from kloros.consumers.introspection.scanners.units import UnitsScanner
from kloros.consumers.introspection_daemon import IntrospectionDaemon
from kloros.machine.journal_reader import Batch, JournalReader, Place
from kloros.machine.systemd_bus import SystemdBus, UnitRow

HOUR_S = 3600.0
STEP_S = 5.0
ASKED = ("Q_CURIOSITY_CRITICAL", "Q_CURIOSITY_HIGH", "Q_CURIOSITY_MEDIUM", "Q_CURIOSITY_LOW")
SERVICES = [f"service-{number}.service" for number in range(30)]
MOUNTS = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


class Systemd(SystemdBus):
    """A systemd whose services run; a timer's job starts and ends now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[str] = set()
        self.restarts = dict.fromkeys(SERVICES, 0)

    def units(self, states: list[str], patterns: list[str]) -> list[UnitRow]:
        rows = [
            UnitRow(name, "loaded", *(("failed", "failed") if name in self.failed else ("active", "running")), name)
            for name in SERVICES
        ]
        return [row for row in rows if row.active in states]

    def read(self, path: str, interface: str, name: str) -> Any:
        known = {
            "Result": "exit-code" if path in self.failed else "success", "ExecMainCode": 1, "StartLimitBurst": 5,
            "ExecMainStatus": 3 if path in self.failed else 0, "NRestarts": self.restarts[path], "Type": "simple",
            "Restart": "on-failure", "StateChangeTimestampMonotonic": 1,
        }  # fmt: skip
        return known.get(name)


class QuietJournal(JournalReader):
    """Nothing at priority error."""

    def __init__(self) -> None:
        super().__init__(1, 1, 1.0)

    def read(self, place: Place) -> Batch:
        return Batch([], place)


class Watched(IntrospectionDaemon):
    """Introspection with its own scanners, on a machine that the test plays."""

    proc: ClassVar[Path]
    systemd: ClassVar[Systemd]

    def make_scanners(self, settings: IntrospectionSettings) -> list[Scanner]:
        return [
            UnitsScanner(settings.units, self.systemd),
            JournalScanner(settings.journal, self._now(), QuietJournal()),
            PressureScanner(settings.pressure, self.proc),
            MemoryScanner(settings.memory, self.proc),
            DiskScanner(settings.disk, self.proc),
            DescriptorsScanner(settings.descriptors, self.proc),
            BusHealthScanner(settings.bus_health),
        ]


class Machine:
    """Its figures go up and down as those of a busy machine do, and stay below what is wrong."""

    def __init__(self, proc: Path, chance: random.Random) -> None:
        self.proc, self._chance = proc, chance
        self.fill_percent = 50.0
        (proc / "pressure").mkdir(parents=True)
        (proc / "sys/fs").mkdir(parents=True)
        (proc / "self").mkdir()
        (proc / "self/mountinfo").write_text(MOUNTS)
        (proc / "filesystems").write_text("nodev\tsysfs\n\text4\n")
        self.change()

    def change(self) -> None:
        chance = self._chance.uniform
        for resource, calm, spike in (("cpu", 78.0, 100.0), ("memory", 9.0, 60.0), ("io", 48.0, 100.0)):
            avg10 = chance(0, spike) if self._chance.random() < 0.1 else chance(0, calm)  # short bursts are ordinary
            line = f"avg10={avg10:.2f} avg60={chance(0, calm):.2f} avg300={chance(0, calm):.2f} total=1\n"
            full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            (self.proc / "pressure" / resource).write_text(f"some {line}{full}")
        available = round(16_000_000 * chance(0.1, 0.7))
        sizes = {"MemTotal": 16_000_000, "MemAvailable": available, "SwapTotal": 4_000_000, "SwapFree": 3_900_000}
        (self.proc / "meminfo").write_text("".join(f"{name}: {kib} kB\n" for name, kib in sizes.items()))
        (self.proc / "sys/fs/file-nr").write_text(f"{round(chance(1_000, 700_000))}\t0\t1000000\n")
        self.fill_percent = min(86.0, max(40.0, self.fill_percent + chance(-3, 3)))

    def statvfs(self, _point: str) -> os.statvfs_result:
        free = round(1_000_000 * (1 - self.fill_percent / 100))
        return os.statvfs_result((4096, 4096, 1_000_000, free, free, 100_000, 60_000, 60_000, 0, 255))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path / "proc", random.Random(1))
    Watched.proc, Watched.systemd = machine.proc, Systemd()
    monkeypatch.setattr(disk.os, "statvfs", machine.statvfs)
    return machine


@pytest.fixture
def suite(tmp_path: Path, machine: Machine) -> Iterator[WholeSuite]:
    others = [consumer for consumer in consumers() if consumer is not IntrospectionDaemon]
    with whole_suite(tmp_path / "suite", [Watched, *others], VirtualClock()) as suite:
        yield suite


def live(suite: WholeSuite, machine: Machine, seconds: float) -> None:
    for _ in range(round(seconds / STEP_S)):
        machine.change()
        suite.advance(STEP_S)


def test_a_healthy_hour_is_a_quiet_hour(suite: WholeSuite, machine: Machine) -> None:
    live(suite, machine, HOUR_S)
    cycles = suite.heard("Q_CYCLE_REPORT")
    scans = [report for report in cycles if report.facts.daemon == Watched.zooid]
    print(f"{len(scans)} scans, {len(cycles)} cycles, {len(suite.heard_all())} messages")
    assert len(scans) == HOUR_S / 5
    assert {report.facts.outcome for report in cycles} <= {"ok", "idle"}
    assert [message.facts.gap_name for message in suite.heard("CAPABILITY_GAP")] == []
    assert suite.heard(*ASKED, "FLAG_FOR_REVIEW", "Q_ACTION_SPAWNED") == []


def test_what_comes_and_goes_all_the_hour_is_asked_about_once(suite: WholeSuite, machine: Machine) -> None:
    """The same trouble, mended and back again six times within the hour: nothing new before its cool-down."""
    for _ in range(6):
        Watched.systemd.failed.add(SERVICES[7])
        live(suite, machine, 300)
        Watched.systemd.failed.clear()
        live(suite, machine, 300)
    assert len(suite.heard("CAPABILITY_GAP")) == 6
    assert len(suite.heard("CAPABILITY_RESTORED")) == 6
    (asked,) = suite.heard(*ASKED)
    assert SERVICES[7] in asked.facts.question
