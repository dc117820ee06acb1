"""A swap for a package: root's code only, for a user's own daemon only, and done when its heart says that it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from kloros.chembus.facts import HeartbeatFacts
from kloros.clock import VirtualClock
from kloros.machine.privileged_policy import HelperPolicy, refusal
from kloros.machine.privileged_protocol import Answer, AnyRequest, Restart
from kloros.optimisation.levers import Hand, NotDone, Unfit, Wanted
from kloros.optimisation.live import Live
from kloros.optimisation.settings import HotSwapSettings
from kloros.optimisation.swap import Versions
from kloros.storage import artifacts

UNIT = "kloros-consumer@disk_report:DiskReport.service"
SETTINGS = HotSwapSettings(
    modules={"disk_report": "disk_report", "semantic_dedup": "semantic_dedup_consumer"}, units={"disk_report": UNIT}
)
CODE = {"disk_report.py": b"WORD = 1\n", "semantic_dedup.py": b"WORD = 1\n"}


@dataclass
class StrawUnit:
    """Restarts by hand; `runs` is what the daemon's heart then says, None for the code as installed."""

    live: Live
    clock: VirtualClock
    runs: str | None = None
    restarted: tuple[str, ...] = ()
    is_there: bool = True

    def ask(self, request: AnyRequest, timeout_s: float = 30.0) -> Answer:
        assert isinstance(request, Restart)
        assert refusal(request, HelperPolicy()) is None  # the policy as shipped
        self.restarted += (request.unit,)
        self.clock.advance(1.0)
        heart = HeartbeatFacts(zooid="disk_report", niche="n", uptime_s=0.5, processed_count=0, artifact=self.runs)
        self.live.hear_heart(heart, self.clock.monotonic_s())
        return Answer(outcome="done")


class Table:
    """A module, its versions, and what swaps it."""

    def __init__(self, state: Path) -> None:
        self.root, self.clock = artifacts.artifacts_under(state), VirtualClock()
        live = Live(self.clock.monotonic_s())
        self.unit = StrawUnit(live, self.clock)
        self.versions = Versions(state, live, self.clock, self.unit, SETTINGS, owners=(os.geteuid(),))

    def stage(self, files: dict[str, bytes], module: str = "disk_report", version: str = "m-1") -> artifacts.Artifact:
        return artifacts.stage(self.root, module, version, files)

    def check(self, staged: artifacts.Artifact) -> str:
        return self.versions.check(staged.module, {"artifact": staged.name, "sha256": staged.sha256})

    def put(self, version: str, *, is_back: bool = False) -> None:
        hand = Hand(lambda seconds: not self.clock.advance(seconds), lambda *_told: None, 1.0)
        self.versions.put(Wanted("disk_report", "version", version, 0, "x-1", is_own=is_back), hand)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_a_package_is_in_force_once_the_heart_says_that_it_runs(table: Table) -> None:
    table.check(table.stage(CODE))
    table.unit.runs = "disk_report/m-1"
    table.put("m-1")
    assert table.unit.restarted == (UNIT,)
    assert artifacts.current_version(table.root, "disk_report") == "m-1"


def test_one_that_its_daemon_passed_over_is_not_done(table: Table) -> None:
    table.stage(CODE)
    with pytest.raises(NotDone, match="the code as installed"):
        table.put("m-1")


def test_back_to_what_is_installed_is_not_done_while_the_package_still_runs(table: Table) -> None:
    table.unit.runs = "disk_report/m-1"
    with pytest.raises(NotDone, match="runs disk_report/m-1"):
        table.put("")


def test_when_the_version_before_is_damaged_the_module_runs_as_installed_and_it_is_said(table: Table) -> None:
    for version in ("m-1", "m-2"):
        table.stage(CODE, version=version)
    table.unit.runs = "disk_report/m-2"
    table.put("m-2")
    (table.root / "disk_report/m-1/disk_report.py").write_bytes(b"WORD = 2\n")
    table.unit.runs = None
    for _ in range(2):  # it is tried again; the daemon is not started anew for that
        with pytest.raises(NotDone, match="not as the manifest says"):
            table.put("m-1", is_back=True)
    assert artifacts.current_version(table.root, "disk_report") is None
    assert table.unit.restarted == (UNIT, UNIT)


def test_parameters_alone_are_swapped_as_ever(table: Table) -> None:
    table.check(table.stage({"parameters.toml": b"a = 1\n"}))
    table.put("m-1")
    assert artifacts.current_version(table.root, "disk_report") == "m-1"


def test_no_daemon_of_the_suite_is_swapped_for_code(table: Table) -> None:
    with pytest.raises(Unfit, match="no daemon of a user's own") as unfit:
        table.check(table.stage(CODE, module="semantic_dedup"))
    assert (unfit.value.reason_code, unfit.value.must_flag) == ("artifact_refused", True)


@pytest.mark.parametrize("mode", [0o664, 0o666])
def test_code_that_others_may_write_is_refused_and_flagged(table: Table, mode: int) -> None:
    staged = table.stage(CODE)
    (table.root / staged.name / "disk_report.py").chmod(mode)
    with pytest.raises(Unfit, match="others than its owner") as unfit:
        table.check(staged)
    assert (unfit.value.reason_code, unfit.value.must_flag) == ("artifact_refused", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_code_that_the_daemons_user_could_have_written_is_refused_and_parameters_are_not(table: Table) -> None:
    code, parameters = table.stage(CODE), table.stage({"parameters.toml": b"a = 1\n"}, version="p-1")
    for staged in (code, parameters):
        for each in (table.root / staged.name, *(table.root / staged.name).iterdir()):
            os.chown(each, 65533, 65533)
    with pytest.raises(Unfit, match="could have written its code; only root may"):
        table.check(code)
    assert table.check(parameters) == "p-1"
