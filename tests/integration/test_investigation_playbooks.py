"""The playbooks on a machine partly made up: systemd and the journal say what the test says, the rest is real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleReportFacts, HeartbeatFacts
from kloros.chembus.facts_work import QuestionFacts
from kloros.clock import SystemClock
from kloros.consumers.investigation.cycle_book import MAX_DAEMONS, CycleBook
from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.registry import best_for, built_in
from kloros.consumers.investigation.rule import Conclusion, conclude
from kloros.consumers.investigation.rules import RULES
from kloros.consumers.investigation.samples import Samples
from kloros.consumers.investigation.settings import DiskSettings, InvestigationSettings, LoadSettings
from kloros.errors import CannotObserve
from kloros.machine.deadline import Deadline
from kloros.machine.journal_query import JournalLine
from kloros.machine.whole import Machine

CLOCK = SystemClock()
SETTINGS = InvestigationSettings(load=LoadSettings(sample_s=0.2), disk=DiskSettings(max_entries=20_000, max_s=5.0))


class Systemd:
    """Units by name, with the properties that they have; or nobody at all."""

    def __init__(self) -> None:
        self.units: dict[str, dict[str, Any]] = {}
        self.is_away = False

    def unit_path(self, name: str) -> str | None:
        if self.is_away:
            raise CannotObserve("nobody answers")
        return name

    def properties(self, path: str, interface: str) -> dict[str, Any]:
        return self.units.get(path, {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"})

    def read(self, path: str, interface: str, name: str) -> Any:
        return self.properties(path, interface).get(name)

    def close(self) -> None:
        pass


class Journal:
    """Lines by unit or identifier."""

    def __init__(self) -> None:
        self.lines: dict[str, list[JournalLine]] = {}
        self.is_away = False

    def _of(self, name: str, *_: Any) -> list[JournalLine]:
        if self.is_away:
            raise CannotObserve("it may not be read")
        return self.lines.get(name, [])

    of_unit = of_identifier = _of

    def of_kernel(self, *_: Any) -> list[JournalLine]:
        return self._of("kernel")

    def latest(self, *_: Any, **__: Any) -> list[JournalLine]:
        return [line for lines in self.lines.values() for line in lines]


class Scene:
    """A machine, what was heard on its bus, and the investigators."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine()
        self.systemd, self.journal, self.book = Systemd(), Journal(), CycleBook()
        self.machine.systemd, self.machine.journal = self.systemd, self.journal  # type: ignore[assignment]
        self.history = folder / "chembus_historian"
        self.investigators = built_in(SETTINGS, self.book, Samples(), self.history)

    def look(self, gap_type: str, gap_name: str, *told: str) -> tuple[Evidence, Conclusion]:
        asked = QuestionFacts(question_id="q", question="?", gap_type=gap_type, gap_name=gap_name, evidence=list(told))
        investigator = best_for(asked, self.investigators)
        evidence = investigator.gather(asked, self.machine, Deadline(CLOCK, 20.0))
        return evidence, conclude(evidence, RULES)

    def unit(self, name: str, **properties: Any) -> None:
        usual = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success"}
        self.systemd.units[name] = {**usual, **properties}

    def says(
        self, name: str, *messages: str, by_manager: bool = False, priority: int = 6, apart_s: float = 1.0
    ) -> None:
        begin_us = CLOCK.wall_us() - round(len(messages) * apart_s * 1e6)
        self.journal.lines.setdefault(name, []).extend(
            JournalLine(
                ts_us=begin_us + round(number * apart_s * 1e6), message=message, by_manager=by_manager, unit=name,
                priority=priority, pid=100,
            )
            for number, message in enumerate(messages)
        )  # fmt: skip

    def hear(self, *facts: CycleReportFacts | HeartbeatFacts, ago_s: float = 0.0) -> None:
        for each in facts:
            signal = "HEARTBEAT" if isinstance(each, HeartbeatFacts) else "Q_CYCLE_REPORT"
            message = Message(signal=signal, ecosystem="x", facts=each, ts=1.0)
            self.book.hear(message, CLOCK.wall_us() - round(ago_s * 1e6))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def report(daemon: str, outcome: str = "ok", **facts: Any) -> CycleReportFacts:
    told = {"daemon": daemon, "schedule": "s", "source": "trigger", "outcome": outcome, "started_ts": 1.0}
    return msgspec.convert({**told, "duration_s": 0.5, **facts}, CycleReportFacts)


def heartbeat(zooid: str, mode: str = "normal") -> HeartbeatFacts:
    told = {"zooid": zooid, "niche": "n", "uptime_s": 1.0, "processed_count": 1, "mode": mode}
    return msgspec.convert(told, HeartbeatFacts)


# Units


def test_without_systemd_the_journal_alone_tells(scene: Scene) -> None:
    scene.systemd.is_away = True
    scene.says("x.service", "Started x.service.", "x.service: Failed at step USER spawning /bin/true: No such process",
               "x.service: Main process exited, code=exited, status=217/USER",
               "x.service: Failed with result 'exit-code'.", by_manager=True)  # fmt: skip
    evidence, conclusion = scene.look("unit_unhealthy", "x.service")
    assert conclusion.rule == "missing_user"
    assert "systemd (nobody answers)" in evidence.lacks


def test_with_neither_it_says_what_could_not_be_looked_at(scene: Scene) -> None:
    scene.systemd.is_away = scene.journal.is_away = True
    evidence, conclusion = scene.look("unit_unhealthy", "x.service", "problem=failed")
    assert conclusion.rule == "inconclusive"
    assert len(evidence.lacks) == 2
    assert all(line.startswith("could not look at") for line in evidence.told())


def test_a_unit_that_starts_and_never_ends_starting(scene: Scene) -> None:
    changed_us = CLOCK.wall_us() - 400_000_000
    scene.unit("x.service", ActiveState="activating", SubState="start-pre", StateChangeTimestamp=changed_us)
    _, conclusion = scene.look("unit_unhealthy", "x.service", "problem=stuck")
    assert conclusion.rule == "stuck"
    assert "start-pre" in conclusion.text


def test_the_port_in_its_command_line_is_looked_up(scene: Scene) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [["/bin/serve", ["serve", str(port)], False, 0, 0, 0, 0, 0, 0, 0]]
        scene.unit("x.service", ActiveState="failed", SubState="failed", Result="exit-code", ExecMainCode=1,
                   ExecMainStatus=1, ExecStart=command)  # fmt: skip
        scene.says("x.service", "OSError: [Errno 98] Address already in use")
        _, conclusion = scene.look("unit_unhealthy", "x.service")
        assert conclusion.rule == "address_in_use"
        assert f"port {port} is in use already" in conclusion.text
        assert f"pid {os.getpid()}" in conclusion.text
        assert conclusion.action is None
    _, conclusion = scene.look("unit_unhealthy", "x.service")
    assert "it is free now" in conclusion.text
    assert conclusion.action is not None
    assert conclusion.action.action_type == "restart_unit"


def test_a_change_shortly_before_the_first_failure_is_told(scene: Scene, tmp_path: Path) -> None:
    unit_file = tmp_path / "x.service"
    unit_file.write_text("[Service]\n")
    scene.unit("x.service", ActiveState="failed", SubState="failed", Result="exit-code", ExecMainCode=1,
               ExecMainStatus=203, FragmentPath=str(unit_file))  # fmt: skip
    scene.says("x.service", "x.service: Failed with result 'exit-code'.", by_manager=True, apart_s=-5.0)
    evidence, _ = scene.look("unit_unhealthy", "x.service")
    assert any("was changed" in line and "before the first failure" in line for line in evidence.lines)


# Errors in the journal


def test_a_flood_is_told_with_its_rate_and_what_it_says_mostly(scene: Scene) -> None:
    flood = [f"connection {number} from 10.0.0.{number} refused by the upstream" for number in range(200)]
    scene.says("try-flood", *flood, priority=3, apart_s=0.01)
    evidence, conclusion = scene.look("journal_errors", "try-flood: connection <n> from <ip> refused by the upstream")
    assert conclusion.rule == "error_flood"
    assert "200 errors" in conclusion.text
    assert any("(200 times)" in line for line in evidence.lines)
    assert any("/s)" in line for line in evidence.lines)


def test_the_trouble_that_is_asked_about_counts_and_not_the_last_one(scene: Scene) -> None:
    scene.unit("shop.service")
    scene.says("shop.service", "x509: certificate has expired", "cache: permission denied", priority=3)
    _, conclusion = scene.look("journal_errors", "shop.service: x509: certificate has expired")
    assert conclusion.rule == "certificate_failure"
    assert conclusion.text.startswith("shop.service logs errors because")


def test_errors_of_a_unit_that_failed_are_explained_by_its_end(scene: Scene) -> None:
    scene.unit("shop.service", ActiveState="failed", SubState="failed", Result="oom-kill", ExecMainCode=2,
               ExecMainStatus=9, MemoryMax=64 << 20)  # fmt: skip
    scene.says("shop.service", "worker lost", priority=3)
    _, conclusion = scene.look("journal_errors", "shop.service: worker lost")
    assert conclusion.rule == "oom_kill"


def test_more_errors_than_can_be_read_are_put_down_to_the_loudest(scene: Scene) -> None:
    scene.says("quiet.service", "once", priority=3)
    scene.says("loud.service", *["again"] * 150, priority=3, apart_s=0.01)
    _, conclusion = scene.look("journal_overrun", "journal")
    assert conclusion.rule == "error_flood"
    assert "loud.service" in conclusion.text


# Load, disks, descriptors


def test_who_keeps_the_cpus_busy(scene: Scene) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        evidence, conclusion = scene.look("pressure_cpu", "cpu", "kind=some")
        busy.kill()
    assert evidence.count("top_pid") > 0
    assert evidence.number("busy_cores") > 0
    assert conclusion.rule in ("cpu_hog", "many_users", "pressure_passed")


@pytest.mark.parametrize(
    ("gap_type", "resource"), [("pressure_memory", "memory"), ("memory_low", "memory"), ("pressure_io", "io")]
)
def test_who_uses_most_is_named_by_unit_or_process(scene: Scene, gap_type: str, resource: str) -> None:
    evidence, conclusion = scene.look(gap_type, resource)
    assert evidence.text("resource") == resource
    assert conclusion.text


def test_what_fills_a_disk_and_what_grew_since_the_last_look(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "app.log").write_bytes(b"x" * 500_000)
    scene.look("disk_full", str(tmp_path))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "blob").write_bytes(b"x" * 900_000)
    evidence, conclusion = scene.look("disk_full", str(tmp_path))
    assert evidence.text("grown_path") == str(tmp_path / "cache")
    assert any("cache grew by" in line for line in evidence.lines)
    assert any("app.log" in line for line in evidence.lines)
    assert conclusion.rule in ("disk_full", "room_again")


def test_many_files_are_told_by_directory(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    for number in range(300):
        (tmp_path / "sessions" / str(number)).touch()
    evidence, _ = scene.look("inodes_exhausted", str(tmp_path))
    assert evidence.text("crowded_path") == str(tmp_path / "sessions")
    assert any("sessions has 300 entries" in line for line in evidence.lines)


def test_a_disk_that_is_gone(scene: Scene, tmp_path: Path) -> None:
    evidence, conclusion = scene.look("disk_full", str(tmp_path / "absent"))
    assert conclusion.rule == "inconclusive"
    assert "No such file or directory" in evidence.lacks[0]


def test_what_a_process_has_open(scene: Scene, tmp_path: Path) -> None:
    me = scene.machine.processes.one(os.getpid())
    assert me is not None
    (tmp_path / "kept").touch()
    kept = [(tmp_path / "kept").open() for _ in range(50)]
    evidence, conclusion = scene.look("process_files_exhausted", f"{me.name}[{me.pid}]")
    for file in kept:
        file.close()
    assert conclusion.rule == "many_open_files"
    assert evidence.text("top_kind") == f"files in {tmp_path}"
    assert evidence.count("files_limit") > 0
    assert scene.look("process_files_exhausted", "gone[999999999]")[1].rule == "files_closed"
    assert scene.look("files_exhausted", "the machine")[1].rule == "machine_files"


# The suite itself


def test_a_daemon_whose_cycles_fail(scene: Scene) -> None:
    scene.unit("kloros-decay.service")
    scene.hear(
        *[report("decay_daemon", "failed", error="StoreUnusable: the disk is full")] * 4, heartbeat("decay_daemon")
    )
    evidence, conclusion = scene.look("cycles_failing", "decay_daemon")
    assert conclusion.rule == "cycles_failing"
    assert "4 of the last 4" in conclusion.text
    assert "the disk is full" in conclusion.text
    assert any("was heard" in line for line in evidence.lines)


def test_a_daemon_that_is_slow(scene: Scene) -> None:
    scene.unit("kloros-decay.service")
    scene.hear(*[report("decay_daemon", "over_budget", duration_s=9.0, backlog=40)] * 4)
    _, conclusion = scene.look("cycles_slow", "decay_daemon")
    assert conclusion.rule == "cycles_slow"
    assert "4 of the last 4" in conclusion.text


def test_a_silent_daemon_that_was_stopped_that_hangs_and_that_failed(scene: Scene) -> None:
    scene.hear(heartbeat("decay_daemon"), ago_s=120.0)
    scene.unit("kloros-decay.service", ActiveState="inactive", SubState="dead")
    assert scene.look("daemon_silent", "decay_daemon")[1].rule == "daemon_stopped"
    scene.unit("kloros-decay.service")
    _, conclusion = scene.look("daemon_silent", "decay_daemon")
    assert conclusion.rule == "daemon_hangs"
    assert conclusion.action is not None
    assert conclusion.action.target == "kloros-decay.service"
    scene.unit("kloros-decay.service", ActiveState="failed", SubState="failed", Result="watchdog", ExecMainCode=2,
               ExecMainStatus=6)  # fmt: skip
    assert scene.look("daemon_silent", "decay_daemon")[1].rule == "watchdog"


def test_a_daemon_that_is_killed_again_and_again_though_it_runs_just_now(scene: Scene) -> None:
    scene.hear(heartbeat("shadow_daemon"))
    scene.unit("kloros-shadow.service", NRestarts=4)
    unit = "kloros-shadow.service"
    scene.says(unit, *(
        f"Started {unit}.", f"{unit}: Sent signal SIGKILL to main process 9 (python) on client request.",
        f"{unit}: Main process exited, code=killed, status=9/KILL", f"{unit}: Failed with result 'signal'.",
        f"{unit}: Scheduled restart job, restart counter is at 1.",
    ) * 4, f"Started {unit}.", by_manager=True)  # fmt: skip
    for gap_type, name in (("unit_unhealthy", unit), ("daemon_silent", "shadow_daemon")):
        evidence, conclusion = scene.look(gap_type, name)
        assert conclusion.rule == "killed_again"
        assert "4 times in an hour by SIGKILL, sent through systemd" in conclusion.text
        assert conclusion.action is None
        assert any("Sent signal SIGKILL" in line for line in evidence.lines)


def test_a_fallback_because_the_scheduler_is_down_silent_or_has_no_such_entry(scene: Scene) -> None:
    scene.unit("kloros-decay.service")
    scene.unit("kloros-scheduler.service", ActiveState="failed", SubState="failed", Result="signal")
    _, conclusion = scene.look("fallback_engaged", "decay_daemon")
    assert conclusion.rule == "scheduler_down"
    assert conclusion.action is not None
    scene.unit("kloros-scheduler.service")
    assert scene.look("fallback_engaged", "decay_daemon")[1].rule == "entry_not_triggered"
    scene.hear(heartbeat("scheduler_daemon"), ago_s=300.0)
    assert scene.look("fallback_engaged", "decay_daemon")[1].rule == "scheduler_silent"


def test_losses_on_the_bus(scene: Scene) -> None:
    long_ago_us = CLOCK.wall_us() - 10_000_000_000
    scene.unit("kloros-chem-proxy.service", StateChangeTimestamp=long_ago_us)
    scene.unit("kloros-decay.service", StateChangeTimestamp=long_ago_us)
    assert scene.look("bus_gap", "decay_daemon: HEARTBEAT", "count=3")[1].rule == "lost_on_the_way"
    assert scene.look("bus_drop", "decay_daemon: HEARTBEAT", "count=3")[1].rule == "slow_reader"
    scene.unit("kloros-chem-proxy.service", StateChangeTimestamp=CLOCK.wall_us() - 60_000_000)
    assert scene.look("bus_gap", "decay_daemon: HEARTBEAT")[1].rule == "proxy_restarted"
    scene.unit("kloros-chem-proxy.service", ActiveState="failed", SubState="failed")
    assert scene.look("bus_silent", "chembus")[1].rule == "proxy_down"


def test_a_scanner_that_cannot_look(scene: Scene) -> None:
    scene.unit("dbus.service", ActiveState="inactive", SubState="dead")
    assert scene.look("scanner_blind", "units", "reason=nobody answers")[1].rule == "source_missing"
    assert scene.look("scanner_blind", "pressure", "reason=no PSI")[1].text == "pressure cannot be watched: no PSI."


def test_what_nobody_knows_is_told_as_it_was_told(scene: Scene) -> None:
    evidence, conclusion = scene.look("odd_type", "thing", "colour=red")
    assert conclusion.rule == "inconclusive"
    assert "told with the question: colour=red" in evidence.lines


def test_the_book_is_bounded(scene: Scene) -> None:
    for number in range(MAX_DAEMONS + 50):
        scene.hear(report(f"d{number}"), ago_s=1000.0 - number)
    assert len(scene.book.entries()) == MAX_DAEMONS
    assert scene.book.of("d0") is None
    scene.hear(*[report("d100")] * 100)
    heard = scene.book.of("d100")
    assert heard is not None
    assert len(heard.cycles) == 30
