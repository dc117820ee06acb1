"""What the scanners make of what they read: pure judgements over real texts."""

from __future__ import annotations

import msgspec
import pytest

from kloros.consumers.introspection.findings import Severity
from kloros.consumers.introspection.scanners.journal import grouped
from kloros.consumers.introspection.scanners.thresholds import Levels
from kloros.consumers.introspection.scanners.unit_states import (
    RestartHistory,
    UnitFacts,
    explain,
    judge_failed,
    judge_stuck,
)
from kloros.machine.journal_reader import Entry, text_of
from kloros.machine.meminfo import parse_meminfo
from kloros.machine.mounts import real_mounts
from kloros.machine.pressure import parse_pressure

LEVELS = Levels(medium_percent=80, high_percent=90, critical_percent=99, leave_percent=70)

FILESYSTEMS = "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tnfs4\nnodev\toverlay\n\text4\n\tsquashfs\n\tvfat\n"
MOUNTINFO = """\
24 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
25 24 0:22 / /sys rw,nosuid - sysfs sysfs rw
26 24 254:1 / /boot\\040efi ro,relatime shared:1 - vfat /dev/vda1 rw
27 24 7:0 / /snap/core ro,relatime - squashfs /dev/loop0 ro
28 24 254:0 /home /run/bind/home rw,relatime - ext4 /dev/vda rw
29 24 0:40 / /mnt/nas rw - nfs4 nas:/x rw
30 24 254:2 / /mnt/broken rw - ext4 /dev/vdb ro,errors=remount-ro
31 24 0:41 / /run rw - tmpfs tmpfs rw
garbage
"""


@pytest.mark.parametrize(
    ("percent", "severity", "sustains"),
    [(69.9, None, False), (70, None, True), (80, Severity.MEDIUM, True), (95, Severity.HIGH, True), (100, 4, True)],
)
def test_levels_have_a_way_in_and_a_way_out(percent: float, severity: Severity | None, sustains: bool) -> None:
    assert (LEVELS.severity(percent), LEVELS.sustains(percent)) == (severity, sustains)


def test_levels_must_rise() -> None:
    with pytest.raises(msgspec.ValidationError, match="must rise"):
        msgspec.convert({"medium_percent": 80, "high_percent": 70, "critical_percent": 99, "leave_percent": 60}, Levels)


def test_mounts_that_hold_data_count_once_under_their_shortest_path() -> None:
    assert [mount.point for mount in real_mounts(MOUNTINFO, FILESYSTEMS)] == ["/", "/boot efi"]


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\u2028", "\x85", "\x1c"])
def test_a_mount_point_may_have_any_space_in_it_but_one(space: str) -> None:
    line = f"36 35 8:33 / /mnt/a{space}b rw,relatime - ext4 /dev/sdc1 rw\n"
    assert [mount.point for mount in real_mounts(line, FILESYSTEMS)] == [f"/mnt/a{space}b"]


def test_a_mount_table_without_anything_real_is_empty() -> None:
    assert real_mounts("", FILESYSTEMS) == []


def test_a_container_on_an_overlay_is_watched() -> None:
    line = "1 0 0:39 / / rw - overlay overlay rw,lowerdir=/\n"
    assert [mount.point for mount in real_mounts(line, FILESYSTEMS)] == ["/"]


def overlay(number: int, upper: str) -> str:
    return f"5{number} 24 0:5{number} / /var/lib/c/{number} rw - overlay overlay rw,lowerdir=/l,upperdir={upper}\n"


def test_the_overlays_of_containers_fill_only_with_the_disk_that_they_write_to() -> None:
    layers = "".join(overlay(number, f"/srv/c/{number}") for number in range(3))
    assert [mount.point for mount in real_mounts(MOUNTINFO + layers, FILESYSTEMS)] == ["/", "/boot efi"]


@pytest.mark.parametrize("upper", ["/run/c", "/mnt/nas/c", "c"])
def test_an_overlay_that_writes_where_nobody_watches_is_watched_itself(upper: str) -> None:
    points = [mount.point for mount in real_mounts(MOUNTINFO + overlay(1, upper), FILESYSTEMS)]
    assert points == ["/", "/boot efi", "/var/lib/c/1"]


def test_the_root_is_watched_though_it_is_an_overlay_on_a_watched_disk() -> None:
    line = "1 0 0:39 / / rw - overlay overlay rw,lowerdir=/,upperdir=/boot\\040efi/up\n"
    assert "/" in [mount.point for mount in real_mounts(MOUNTINFO.split("\n", 1)[1] + line, FILESYSTEMS)]


def test_pressure_is_read_with_and_without_full() -> None:
    text = "some avg10=0.91 avg60=0.55 avg300=0.16 total=4443747\nfull avg10=0.00 avg60=1.50 avg300=0.00 total=0\n"
    assert parse_pressure(text) == {"some": (0.91, 0.55, 4443747), "full": (0.0, 1.5, 0)}
    assert parse_pressure(text.splitlines()[0]) == {"some": (0.91, 0.55, 4443747)}


def test_meminfo_is_read_with_and_without_units() -> None:
    assert parse_meminfo("MemTotal:  100 kB\nHugePages_Total:   7\n") == {"MemTotal": 100, "HugePages_Total": 7}


def failed(**known: object) -> UnitFacts:
    return UnitFacts("x.service", "failed", "failed", **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "why"),
    [
        (failed(result="exit-code", main_code=1, main_status=203), "exit-code, status 203/EXEC"),
        (failed(result="exit-code", main_code=1, main_status=1), "exit-code, status 1"),
        (failed(result="signal", main_code=2, main_status=9), "signal, signal 9"),
        (failed(result="core-dump", main_code=3, main_status=11), "core-dump, signal 11"),
        (failed(result="timeout", main_code=2, main_status=15), "timeout"),
        (failed(result="start-limit-hit"), "start-limit-hit"),
        (failed(), "unknown"),
    ],
)
def test_why_a_unit_ended_reads_as_systemd_says_it(unit: UnitFacts, why: str) -> None:
    assert explain(unit) == why
    assert why in judge_failed(unit).summary


def test_a_unit_that_used_up_its_starts_and_got_no_further_one_was_given_up() -> None:
    crashed = failed(result="exit-code", main_code=1, main_status=1, restarts=5, start_burst=5, was_to_restart=True)
    assert judge_failed(crashed).problem == "start_limited"
    assert judge_failed(crashed._replace(restarts=0)).problem == "failed"
    assert judge_failed(crashed._replace(start_burst=0)).problem == "failed"
    assert judge_failed(failed(result="start-limit-hit")).problem == "start_limited"


def test_a_unit_that_failed_after_many_restarts_in_weeks_was_not_given_up() -> None:
    stopped_badly = failed(result="exit-code", main_code=1, main_status=143, restarts=7, start_burst=5)
    assert judge_failed(stopped_badly).problem == "failed"


@pytest.mark.parametrize(
    ("unit", "problem"),
    [
        (UnitFacts("x.service", "activating", "start", in_state_s=200.0), "stuck"),
        (UnitFacts("x.service", "deactivating", "stop-sigterm", in_state_s=200.0), "stuck"),
        (UnitFacts("x.service", "activating", "start", in_state_s=100.0), None),
        (UnitFacts("x.service", "activating", "start"), None),
        (
            UnitFacts("x.service", "activating", "auto-restart", result="exit-code", in_state_s=200.0),
            "waiting_to_restart",
        ),
        (UnitFacts("x.service", "activating", "auto-restart", result="success", in_state_s=200.0), None),
    ],
)
def test_stuck_is_a_matter_of_time_and_of_a_bad_end(unit: UnitFacts, problem: str | None) -> None:
    verdict = judge_stuck(unit, 180.0)
    assert (verdict.problem if verdict else None) == problem


def test_restarts_are_counted_in_a_sliding_window_from_the_first_reading() -> None:
    history = RestartHistory(window_s=100.0)
    assert [history.read(*reading) for reading in ((40, 0.0), (41, 10.0), (43, 20.0), (43, 30.0))] == [
        False, True, True, False,
    ]  # fmt: skip
    assert history.in_window == 3
    history.read(43, 115.0)
    assert history.in_window == 2
    assert not history.read(0, 116.0)  # an operator restarted it
    assert history.in_window == 0


def entry(message: str = "it broke", **other: str) -> Entry:
    known = {"unit": "app.service", "identifier": "app", "about_unit": "", "event": ""} | other
    return Entry(message=message, priority=3, **known)


def test_entries_that_say_the_same_are_one_group_per_source() -> None:
    groups = grouped([entry("retry 1"), entry("retry 2"), entry("retry 3", unit="other.service"), entry("gone")])
    assert [(source, template, len(alike)) for source, template, alike in groups] == [
        ("app.service", "retry <n>", 2),
        ("other.service", "retry <n>", 1),
        ("app.service", "gone", 1),
    ]


def test_what_we_say_of_findings_is_never_a_finding() -> None:
    assert grouped([entry(event="gap_opened"), entry(event="scanner_refused")]) == []
    assert len(grouped([entry(event="cycle_failed")])) == 1


def test_a_source_that_never_repeats_itself_is_bounded() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    groups = grouped([entry(f"{first}{second} word") for first in letters for second in letters])
    assert len(groups) == 51
    assert sum(len(alike) for _, _, alike in groups) == 26 * 26


@pytest.mark.parametrize(
    ("known", "source"),
    [
        ({}, "app.service"),
        ({"unit": "session-7.scope", "identifier": "sshd"}, "sshd"),
        ({"unit": "init.scope", "identifier": "systemd", "about_unit": "x.service"}, "x.service"),
        ({"unit": "x.service", "identifier": "(daemon)", "about_unit": "x.service"}, "x.service"),
        ({"unit": "", "identifier": "kernel"}, "kernel"),
        ({"unit": "", "identifier": ""}, "unknown"),
    ],
)
def test_the_source_is_who_it_is_about(known: dict[str, str], source: str) -> None:
    assert grouped([entry(**known)])[0][0] == source


def test_journal_fields_come_as_text_bytes_lists_or_nothing() -> None:
    assert text_of("plain") == "plain"
    assert text_of([98, 97, 100, 255]) == "bad\ufffd"
    assert text_of(["first", "second"]) == "first"
    assert text_of([[98, 97], "second"]) == "ba"
    assert [text_of(odd) for odd in (None, [], 7, {})] == [""] * 4
