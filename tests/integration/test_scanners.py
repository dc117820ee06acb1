"""Scanners at work: side by side, on real files and processes, and on sources that are missing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kloros.clock import SystemClock
from kloros.consumers.introspection.findings import Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.descriptors import DescriptorsScanner, DescriptorsSettings
from kloros.consumers.introspection.scanners.disk import DiskScanner, DiskSettings
from kloros.consumers.introspection.scanners.journal import JournalScanner, JournalSettings
from kloros.consumers.introspection.scanners.memory import MemoryScanner, MemorySettings
from kloros.consumers.introspection.scanners.pool import MAX_SCANNERS, ScannerPool
from kloros.consumers.introspection.scanners.pressure import PressureScanner, PressureSettings
from kloros.consumers.introspection.scanners.thresholds import Levels
from kloros.consumers.introspection.scanners.units import UnitsScanner, UnitsSettings
from kloros.errors import CannotObserve
from kloros.machine.journal_reader import JournalReader, Place
from kloros.machine.systemd_bus import SystemdBus

NOW = Now(1_700_000_000_000_000, 100.0)


def symptom(scanner: str) -> Symptom:
    return Symptom(gap_type="t", gap_name=scanner, scanner=scanner, severity=Severity.LOW, summary="")


class Scripted:
    """A scanner that does as it is told."""

    def __init__(self, name: str, work: Callable[[], object] = lambda: None, timeout_s: float = 0.05) -> None:
        self.name, self.timeout_s, self.work, self.started = name, timeout_s, work, 0

    def scan(self, now: Now) -> list[Symptom]:
        self.started += 1
        self.work()
        return [symptom(self.name)]


@pytest.fixture
def pooled() -> Iterator[Callable[..., ScannerPool]]:
    pools: list[ScannerPool] = []

    def make(*scanners: Scripted) -> ScannerPool:
        pools.append(ScannerPool(scanners))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def refuse() -> None:
    raise CannotObserve("nothing here")


def crash() -> None:
    raise ZeroDivisionError("oops")


def test_each_scanner_answers_for_itself(pooled: Callable[..., ScannerPool]) -> None:
    pool = pooled(Scripted("fine"), Scripted("blind", refuse), Scripted("broken", crash))
    for _ in range(2):
        told = {sighting.scanner: sighting for sighting in pool.scan(NOW)}
        assert told["fine"].symptoms == [symptom("fine")]
        assert told["blind"].lack == "nothing here"
        assert told["broken"].lack == "scanner failed: ZeroDivisionError: oops"


def test_one_that_hangs_keeps_its_place_is_named_and_delays_nobody_twice(pooled: Callable[..., ScannerPool]) -> None:
    release = threading.Event()
    hung, quick = Scripted("hung", release.wait), Scripted("quick")
    pool = pooled(hung, quick)
    clock = SystemClock()
    for _ in range(3):
        began_s = clock.monotonic_s()
        told = {sighting.scanner: sighting for sighting in pool.scan(NOW)}
        assert told["hung"].hung
        assert told["quick"].lack is None
    assert clock.monotonic_s() - began_s < hung.timeout_s  # only the first time was it waited for
    assert (hung.started, quick.started) == (1, 3)
    release.set()


def test_what_a_late_one_saw_counts_in_a_later_cycle(
    pooled: Callable[..., ScannerPool], wait_for: Callable[..., None]
) -> None:
    release = threading.Event()
    late = Scripted("late", release.wait)
    pool = pooled(late)
    assert pool.scan(NOW)[0].hung
    release.set()
    wait_for(lambda: pool.scan(NOW)[0].symptoms == [symptom("late")])
    assert late.started == 1
    assert pool.scan(NOW)[0].lack is None
    assert late.started == 2


def test_the_number_of_scanners_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most 32"):
        ScannerPool([Scripted(str(index)) for index in range(MAX_SCANNERS + 1)])


def test_this_machine_can_be_looked_at() -> None:
    for scanner in (PressureScanner(PressureSettings()), MemoryScanner(MemorySettings()), DiskScanner(DiskSettings())):
        assert isinstance(scanner.scan(NOW), list)


def pressure_at(folder: Path, avg10: float, avg60: float) -> list[Symptom]:
    directory = folder / "pressure"
    directory.mkdir(exist_ok=True)
    for resource_name in ("cpu", "memory", "io"):
        (directory / resource_name).write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    (directory / "cpu").write_text(f"some avg10={avg10:.2f} avg60={avg60:.2f} avg300=0.00 total=1\n")
    return PressureScanner(PressureSettings(), folder).scan(NOW)


def test_pressure_must_last_to_open_and_must_ease_to_close(tmp_path: Path) -> None:
    assert pressure_at(tmp_path, 99, 50) == []
    assert pressure_at(tmp_path, 10, 90)[0].sustains
    (found,) = pressure_at(tmp_path, 97, 96)
    assert (found.gap_type, found.severity, found.sustains) == ("pressure_cpu", Severity.HIGH, False)
    assert pressure_at(tmp_path, 61, 61)[0].sustains
    assert pressure_at(tmp_path, 59, 59) == []


def test_memory_and_swap_that_run_out(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    scanner = MemoryScanner(MemorySettings(), tmp_path)
    meminfo.write_text("MemTotal: 100000 kB\nMemAvailable: 50000 kB\nSwapTotal: 1000 kB\nSwapFree: 0 kB\n")
    assert scanner.scan(NOW) == []
    meminfo.write_text("MemTotal: 100000 kB\nMemAvailable: 4000 kB\nSwapTotal: 1000 kB\nSwapFree: 0 kB\n")
    assert [(found.gap_type, found.severity) for found in scanner.scan(NOW)] == [
        ("memory_low", Severity.HIGH),
        ("swap_exhausted", Severity.CRITICAL),
    ]


FULL = Levels(medium_percent=0.001, high_percent=100, critical_percent=100, leave_percent=0)


def test_a_disk_is_full_only_when_there_is_little_room_too() -> None:
    crowded = DiskScanner(DiskSettings(fill=FULL, roomy_free_mib=1e12)).scan(NOW)
    assert "disk_full" in {found.gap_type for found in crowded}
    assert DiskScanner(DiskSettings(fill=FULL, roomy_free_mib=0)).scan(NOW) == []


def test_a_mount_point_that_is_no_text_is_looked_at_and_told(tmp_path: Path) -> None:
    point = bytes(tmp_path) + b"/Daten\xe4"
    Path(os.fsdecode(point)).mkdir()
    (tmp_path / "self").mkdir()
    (tmp_path / "filesystems").write_text("nodev\ttmpfs\n\text4\n")
    (tmp_path / "self/mountinfo").write_bytes(b"36 35 8:33 / " + point + b" rw,relatime - ext4 /dev/sdc1 rw\n")
    settings = DiskSettings(fill=FULL, roomy_free_mib=1e12)
    full = [each for each in DiskScanner(settings, tmp_path).scan(NOW) if each.gap_type == "disk_full"]
    told = f"{tmp_path}/Daten\\xe4"
    assert [(each.gap_name, each.evidence["mount"]) for each in full] == [(told, told)]
    assert full[0].summary.startswith(f"{told} (ext4) is ")


def test_a_process_close_to_its_limit_of_files_is_found() -> None:
    limit = 100
    script = f"import resource, os; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
    script += f"kept = [os.dup(0) for _ in range({limit - 6})]; print('full', flush=True); input()"
    command = [sys.executable, "-c", script]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > limit
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"full\n"
        found = DescriptorsScanner(DescriptorsSettings()).scan(NOW)
        process.kill()
    assert any(f"[{process.pid}]" in symptom.gap_name and symptom.evidence["limit"] == limit for symptom in found)


@pytest.mark.parametrize("scanner", [PressureScanner, MemoryScanner, DiskScanner, DescriptorsScanner])
def test_a_source_that_is_missing_is_said_to_be(scanner: Callable[..., object], tmp_path: Path) -> None:
    settings = {
        PressureScanner: PressureSettings, MemoryScanner: MemorySettings,
        DiskScanner: DiskSettings, DescriptorsScanner: DescriptorsSettings,
    }[scanner]()  # type: ignore[index]  # fmt: skip
    with pytest.raises(CannotObserve):
        scanner(settings, tmp_path).scan(NOW)  # type: ignore[attr-defined]


def test_without_a_bus_units_cannot_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-such-socket")
    bus = SystemdBus()
    with pytest.raises(CannotObserve, match="systemd cannot be asked over D-Bus"):
        UnitsScanner(UnitsSettings(), bus).scan(NOW)


# The journal, with a program in journalctl's place that answers from a file as journalctl does.

JOURNALCTL = """#!{python}
import json, sys
entries = [json.loads(line) for line in open({source!r})]
where = next(a for a in sys.argv if a.startswith(("--cursor=", "--since=")))
kind, _, value = where.partition("=")
if kind == "--cursor":
    if value == "nonsense": sys.exit(1)
    entries = [e for e in entries if e["__CURSOR"] >= value]
else:
    us = round(float(value[1:]) * 1e6)
    entries = [e for e in entries if int(e["__REALTIME_TIMESTAMP"]) >= us]
for entry in entries: print(json.dumps(entry))
"""


class FakeJournal:
    """Journal files on disk, and a journalctl that reads them."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "logs/machine/system.journal"
        self.source.parent.mkdir(parents=True)
        self.source.touch()
        self.command = folder / "journalctl"
        self.command.write_text(JOURNALCTL.format(python=sys.executable, source=str(self.source)))
        self.command.chmod(0o755)
        self.count = 0

    def log(self, message: object, **fields: object) -> None:
        self.count += 1
        moment = NOW.wall_us + self.count * 1_000_000
        entry = {
            "__CURSOR": f"c{self.count:06}",
            "__REALTIME_TIMESTAMP": str(moment),
            "MESSAGE": message,
            "PRIORITY": "3",
        }
        with self.source.open("a") as file:
            file.write(json.dumps(entry | {"_SYSTEMD_UNIT": "app.service"} | fields) + "\n")

    def vacuum(self) -> None:
        self.source.write_text("")

    def reader(self, max_lines: int = 1000) -> JournalReader:
        folders = (self.source.parent.parent,)
        return JournalReader(max_lines, 1_000_000, 5.0, folders, (str(self.command),))

    def scanner(self, max_lines: int = 1000, **settings: float) -> JournalScanner:
        return JournalScanner(JournalSettings(**settings), NOW, self.reader(max_lines))  # type: ignore[arg-type]


@pytest.fixture
def journal(tmp_path: Path) -> FakeJournal:
    return FakeJournal(tmp_path)


def after(seconds: float) -> Now:
    return Now(NOW.wall_us + int(seconds * 1e6), NOW.monotonic_s + seconds)


def names(symptoms: list[Symptom]) -> list[tuple[str, int]]:
    return [(symptom.gap_name, symptom.occurrences) for symptom in symptoms]


def test_the_journal_is_read_from_the_present_on_each_entry_once(journal: FakeJournal) -> None:
    journal.log("before", __REALTIME_TIMESTAMP=str(NOW.wall_us))
    scanner = journal.scanner()
    assert scanner.scan(after(1)) == []
    journal.log("retry 1")
    journal.log("retry 2")
    assert names(scanner.scan(after(5))) == [("app.service: retry <n>", 2)]
    assert scanner.scan(after(10)) == []
    journal.log("retry 3")
    assert names(scanner.scan(after(15))) == [("app.service: retry <n>", 1)]


def test_a_restart_goes_on_where_it_was(journal: FakeJournal) -> None:
    scanner = journal.scanner()
    scanner.scan(NOW)
    journal.log("one")
    scanner.scan(after(5))
    journal.log("two")
    again = journal.scanner()
    again.recall(scanner.keepsake())
    assert names(again.scan(after(100))) == [("app.service: two", 1)]


@pytest.mark.parametrize("cursor", ["c000001", "nonsense"])
def test_a_lost_cursor_loses_no_entry(journal: FakeJournal, cursor: str) -> None:
    journal.log("read already")
    scanner = journal.scanner()
    scanner.recall(json.dumps({"after_us": NOW.wall_us + 1_000_000, "cursor": cursor}))
    journal.vacuum()
    journal.log("new")
    seen = [scanner.scan(after(5)), scanner.scan(after(10))]
    assert [name for symptoms in seen for name, _ in names(symptoms)] == ["app.service: new"]


def test_odd_messages_are_taken_as_they_come(journal: FakeJournal) -> None:
    scanner = journal.scanner()
    scanner.scan(NOW)
    journal.log([98, 97, 100, 255, 254])
    journal.log(None)
    journal.log(["first", "second"])
    journal.log("")
    journal.log("boom", PRIORITY="0", _SYSTEMD_UNIT=["a.service", "b.service"])
    found = scanner.scan(after(10))
    assert [symptom.gap_name for symptom in found] == [
        "app.service: bad\ufffd\ufffd",
        "app.service: (a very long message)",
        "app.service: first",
        "app.service: (empty message)",
        "a.service: boom",
    ]
    assert found[-1].severity is Severity.CRITICAL


def test_a_flood_is_read_in_portions_and_raises_the_severity(journal: FakeJournal) -> None:
    scanner = journal.scanner(max_lines=100, flood_lines=50)
    scanner.scan(NOW)
    for index in range(250):
        journal.log(f"refused {index}")
    portions = [scanner.scan(after(251)) for _ in range(4)]
    assert (
        sum(symptom.occurrences for portion in portions for symptom in portion if symptom.gap_type == "journal_errors")
        >= 100
    )
    assert portions[0][0].severity is Severity.HIGH


def test_reading_that_falls_behind_goes_on_at_the_present_and_says_so(journal: FakeJournal) -> None:
    scanner = journal.scanner(max_lines=10, max_lag_s=60.0)
    scanner.scan(NOW)
    for index in range(100):
        journal.log(f"refused {index}")
    found = scanner.scan(after(100.5))
    assert [symptom.gap_type for symptom in found] == ["journal_errors", "journal_overrun"]
    assert scanner.scan(after(101)) == []


def test_journalctl_is_not_run_while_no_file_changed(journal: FakeJournal) -> None:
    reader = journal.reader()
    place = reader.read(Place(NOW.wall_us)).place
    journal.command.unlink()
    assert reader.read(place).entries == []
    journal.log("new")
    with pytest.raises(CannotObserve, match="cannot be run"):
        reader.read(place)


def test_what_systemd_says_of_a_unit_is_covered_by_the_units_scanner(journal: FakeJournal) -> None:
    scanner = journal.scanner()
    scanner.scan(NOW)
    journal.log("Failed to start x", SYSLOG_IDENTIFIER="systemd", UNIT="x.service", _SYSTEMD_UNIT="init.scope")
    (found,) = scanner.scan(after(5))
    assert (found.covered_by, found.gap_name) == ("units", "x.service: Failed to start x")


def test_without_a_journal_or_the_right_to_read_it_that_is_said(tmp_path: Path, journal: FakeJournal) -> None:
    with pytest.raises(CannotObserve, match="there is no journal"):
        JournalReader(1, 1, 1.0, (tmp_path / "nowhere",)).read(Place(0))
    if os.geteuid() != 0:
        journal.source.chmod(0)
        with pytest.raises(CannotObserve, match="systemd-journal"):
            journal.reader().read(Place(0))
