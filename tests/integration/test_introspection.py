"""The introspection daemon on an in-memory bus, in virtual time, with scanners that see what the test says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.bench import Bench, bench

from kloros.clock import VirtualClock
from kloros.config import load
from kloros.consumers.introspection.findings import Severity, Symptom
from kloros.consumers.introspection.scanners.base import Now, Scanner
from kloros.consumers.introspection.scanners.registry import IntrospectionSettings, built_in
from kloros.consumers.introspection_daemon import IntrospectionDaemon
from kloros.errors import CannotObserve, ConfigError

BEAT_US = 5_000_000
CONFIG = Path(__file__).parents[2] / "config/introspection_config.toml"


NOT_RISING = """[memory.used]
medium_percent = 99
high_percent = 95
critical_percent = 98
leave_percent = 88
"""


class Eye:
    """A scanner that sees what it is shown, and remembers how often it looked."""

    timeout_s = 1.0

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown: dict[str, Severity] = {}
        self.lack: str | None = None
        self.covered_by: str | None = None
        self.evidence: Any = {"exit": 203}
        self.hold: threading.Event | None = None
        self.looks = 0

    def scan(self, now: Now) -> list[Symptom]:
        self.looks += 1
        if self.hold:
            self.hold.wait()
        if self.lack:
            raise CannotObserve(self.lack)
        return [
            Symptom(
                gap_type="seen",
                gap_name=name,
                scanner=self.name,
                severity=severity,
                summary=f"{name} is broken",
                evidence=self.evidence,
                covered_by=self.covered_by,
            )
            for name, severity in self.shown.items()
        ]

    def keepsake(self) -> str:
        return str(self.looks)

    def recall(self, keepsake: str) -> None:
        self.looks = int(keepsake)


class Watched(IntrospectionDaemon):
    """Introspection with two eyes of the test's."""

    left: Eye
    right: Eye

    def make_scanners(self, settings: IntrospectionSettings) -> list[Scanner]:
        self.left, self.right = Eye("left"), Eye("right")
        return [self.left, self.right]


Table = Bench[Watched]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def table(tmp_path: Path, clock: VirtualClock) -> Iterator[Table]:
    with bench(Watched, tmp_path, clock) as ready:
        yield ready


def scan(table: Bench[Any], times: int = 1) -> None:
    """The scheduler's beats, five seconds apart."""
    for _ in range(times):
        table.clock.advance(5.0)
        beat = table.clock.wall_us() // BEAT_US
        due_ts = beat * BEAT_US / 1e6
        facts = {"schedule": "introspection_scan", "beat": beat, "due_ts": due_ts, "interval_s": 5.0, "epoch": 1}
        table.say("Q_TRIGGER_INTROSPECTION", facts)


def gaps(table: Table) -> list[tuple[str, str]]:
    return [(heard.facts.gap_name, heard.facts.severity) for heard in table.heard("CAPABILITY_GAP")]


def restored(table: Table) -> list[str]:
    return [heard.facts.gap_name for heard in table.heard("CAPABILITY_RESTORED")]


def test_a_broken_thing_is_one_gap_and_once_mended_one_restoration(table: Table) -> None:
    table.daemon.left.shown = {"x.service": Severity.HIGH}
    scan(table, 5)
    assert gaps(table) == [("x.service", "high")]
    table.daemon.left.shown = {}
    scan(table, 5)
    assert restored(table) == ["x.service"]
    assert len(gaps(table)) == 1


def test_the_gap_says_what_where_and_why(table: Table) -> None:
    table.daemon.left.shown = {"x.service": Severity.HIGH}
    scan(table)
    told = table.heard("CAPABILITY_GAP")[0].facts
    assert (told.gap_type, told.change, told.detail) == ("seen", "opened", "x.service is broken")
    assert told.evidence == ["exit=203"]
    assert told.first_seen_ts == table.clock.wall_us() / 1e6
    table.daemon.left.shown = {}
    scan(table, 3)
    assert {heard.incident_id for heard in [*table.heard("CAPABILITY_GAP"), *table.heard("CAPABILITY_RESTORED")]} == {
        told.gap_id
    }, "the whole life of a finding is one incident"
    over = table.heard("CAPABILITY_RESTORED")[0].facts
    assert (over.gap_id, over.change, over.duration_s) == (told.gap_id, "restored", 10.0)


def test_a_finding_that_worsens_is_told_once_per_level(table: Table) -> None:
    for severity in (Severity.LOW, Severity.HIGH, Severity.LOW, Severity.HIGH):
        table.daemon.left.shown = {"x": severity}
        scan(table)
    assert gaps(table) == [("x", "low"), ("x", "high")]


def test_a_person_reads_one_line_per_opening_and_closing(table: Table) -> None:
    with capture_logs() as lines:
        table.daemon.left.shown = {"x": Severity.LOW}
        scan(table, 3)
        table.daemon.left.shown = {"x": Severity.HIGH}
        scan(table, 3)
        table.daemon.left.shown = {}
        scan(table, 3)
    told = [(line["event"], line["summary"]) for line in lines if line["event"].startswith("gap_")]
    assert told == [
        ("gap_opened", "x is broken"),
        ("gap_worsened", "x is broken"),
        ("gap_closed", "over: x is broken"),
    ]


def test_a_scanner_that_goes_blind_is_named_once_and_what_it_saw_stays_open(table: Table) -> None:
    table.daemon.left.shown = {"x": Severity.HIGH}
    scan(table)
    table.daemon.left.lack = "no D-Bus"
    scan(table, 10)
    assert gaps(table) == [("x", "high"), ("left", "low")]
    assert table.daemon.status().endswith("blind: left")
    assert table.daemon.heartbeat_facts().detail == "blind: left"
    assert restored(table) == []
    table.daemon.left.lack = None
    scan(table, 3)
    assert restored(table) == ["left"]
    assert "blind" not in table.daemon.status()


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("gro\udcdf", {}),
        ("y", {"path": "gro\udcdf"}),
        ("y", {"path": {1, 2}}),
        ("y", {"share": float("nan")}),
        ("y", {"log": "x" * 2_000_000}),
        (7, {}),
    ],
    ids=["name", "evidence", "no JSON", "no number", "too long", "no name"],
)
def test_a_scanner_whose_sighting_cannot_be_told_is_blind_and_the_others_go_on(
    table: Table, name: Any, evidence: Any
) -> None:
    table.daemon.left.shown, table.daemon.left.evidence = {name: Severity.HIGH}, evidence
    table.daemon.right.shown = {"x": Severity.HIGH}
    scan(table, 3)
    assert sorted(gaps(table)) == [("left", "low"), ("x", "high")]
    assert table.daemon.status().endswith("blind: left")
    table.daemon.left.shown = {}
    scan(table, 3)
    assert restored(table) == ["left"]


def test_a_scanner_whose_complaint_is_no_text_is_named_all_the_same(table: Table) -> None:
    table.daemon.left.lack = "no gro\udcdf"
    scan(table)
    (gap,) = table.heard("CAPABILITY_GAP")
    assert gap.facts.detail == "cannot watch left: no gro\\xdf"


def test_a_scanner_that_hangs_is_a_finding_and_the_others_go_on(table: Table) -> None:
    table.daemon.left.timeout_s = 0.05
    table.daemon.left.hold = threading.Event()
    table.daemon.right.shown = {"x": Severity.HIGH}
    scan(table, 3)
    assert sorted(gaps(table)) == [("left", "medium"), ("x", "high")]
    assert table.daemon.left.looks == 1
    table.daemon.left.hold.set()
    scan(table, 3)
    assert restored(table) == ["left"]


def test_what_another_scanner_tells_better_is_heard_only_while_that_one_is_blind(table: Table) -> None:
    table.daemon.right.shown, table.daemon.right.covered_by = {"x": Severity.HIGH}, "left"
    scan(table, 2)
    assert gaps(table) == []
    table.daemon.left.lack = "no D-Bus"
    scan(table, 2)
    assert ("x", "high") in gaps(table)


def test_a_restart_tells_nothing_anew_and_closes_what_mended_meanwhile(tmp_path: Path, clock: VirtualClock) -> None:
    with bench(Watched, tmp_path, clock) as table:
        table.daemon.left.shown = {"x": Severity.HIGH, "y": Severity.HIGH}
        scan(table, 2)
        looks = table.daemon.left.looks
    with bench(Watched, tmp_path, clock) as table:
        assert table.daemon.left.looks == looks
        table.daemon.left.shown = {"x": Severity.HIGH}
        scan(table, 4)
        assert gaps(table) == []
        assert restored(table) == ["y"]


def test_a_cycle_that_fails_leaves_nothing_behind(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.daemon.left.shown = {"x": Severity.HIGH}

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(table.daemon, "_save", broken)
        scan(table)
    assert table.heard("Q_CYCLE_REPORT")[-1].facts.outcome == "failed"
    assert gaps(table) == []
    scan(table)
    assert gaps(table) == [("x", "high")]


def test_findings_of_a_scanner_that_is_gone_are_closed(tmp_path: Path, clock: VirtualClock) -> None:
    with bench(Watched, tmp_path, clock) as table:
        table.daemon.left.shown = {"x": Severity.HIGH}
        scan(table)
    with bench(OneEyed, tmp_path, clock) as other:
        scan(other, 3)
        assert [heard.facts.gap_name for heard in other.heard("CAPABILITY_RESTORED")] == ["x"]


class OneEyed(IntrospectionDaemon):
    """Introspection after the left eye was disabled."""

    def make_scanners(self, settings: IntrospectionSettings) -> list[Scanner]:
        return [Eye("right")]


def test_the_bus_itself_is_watched(tmp_path: Path, clock: VirtualClock) -> None:
    with bench(OnlyTheBus, tmp_path, clock) as table:
        table.outsider.emit("HEARTBEAT", {"zooid": "gone", "niche": "n", "uptime_s": 1.0, "processed_count": 0})
        table.say("BUS_DROP", {"observer": "slow", "signal": "OBSERVATION", "dropped": 7})
        table.advance(60.0)
        found = {heard.facts.gap_type for heard in table.heard("CAPABILITY_GAP")}
        assert {"daemon_silent", "bus_drop"} <= found


class OnlyTheBus(IntrospectionDaemon):
    """Introspection that sees nothing of the machine."""

    def make_scanners(self, settings: IntrospectionSettings) -> list[Scanner]:
        return [scanner for scanner in built_in(settings, self._now()) if scanner.name == "bus_health"]


def test_settings_are_taken_on_reload_and_a_bad_file_changes_nothing(table: Table, tmp_path: Path) -> None:
    file = table.daemon.place.config / "introspection_config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    before = table.daemon.left
    file.write_text("[disk]\ntimeout_ms = 3\n")
    with capture_logs() as lines:
        table.daemon.reload()
        scan(table)
    assert "timeout_s" in next(line["reason"] for line in lines if line["event"] == "settings_refused")
    assert table.daemon.left is before
    file.write_text("[disk]\ntimeout_s = 3.0\n")
    table.daemon.reload()
    scan(table)
    assert table.daemon.left is not before


def test_the_shipped_settings_are_the_defaults() -> None:
    assert load(CONFIG, IntrospectionSettings) == IntrospectionSettings()


@pytest.mark.parametrize(
    ("text", "key"),
    [("[units]\nflap_window = 3\n", "units.flap_window"), ("[disk]\ntimeout_s = -1\n", "disk.timeout_s"),
     (NOT_RISING, "memory.used")],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(text: str, key: str, tmp_path: Path) -> None:
    file = tmp_path / "introspection_config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file, IntrospectionSettings)
    assert refused.value.key == key
