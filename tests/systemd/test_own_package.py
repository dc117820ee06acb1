"""A user's own daemon is swapped for a staged package of it, and back by itself when that does not go well."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from tests.systemd.suite import OPTIMISER, PYTHON, Suite
from tests.systemd.system import wait_for

UNIT = "kloros-consumer@disk_report:DiskReport.service"
MODULE = "disk_report"
FOLDER = "/root/package"
ARTIFACTS = f"/var/lib/kloros/artifacts/{MODULE}"
SERVES_AGAIN_S = 30.0

# The shipped settings, in quick, and with a module of one's own.
SETTINGS = f"""
[modes]
hot_swap_module = "auto"
[limits]
max_enactments = 100
max_hot_swaps = 100
cool_down_s = 0.0
[breaker]
failures = 100
[verification]
settle_s = 1.0
min_samples = 3
[hot_swap]
probation_cycles = 3
[hot_swap.modules]
{MODULE} = "{MODULE}"
[hot_swap.units]
{MODULE} = "{UNIT}"
"""

SOURCE = """
from disk_words import SAYS

from kloros.daemon.consumer import Consumer


class DiskReport(Consumer):
    schedule = "disk_report"
    signal = "Q_TRIGGER_DISK_REPORT"
    interval_s = 1.0

    def on_start(self):
        {at_start}

    def cycle(self, cycle):
        cycle.log.info("disk", says=SAYS)
        {in_cycle}
        cycle.processed = 1
"""

BROKEN = {
    "raises at its import": {"at_import": "1 / 0"},
    "ends at its start": {"at_start": "import os; os._exit(7)"},
    "fails in its first cycle": {"in_cycle": "raise RuntimeError('no')"},
}

# As whoever has taken over the user kloros: all that it may write, it writes.
PLANTING = """
import os
from pathlib import Path
from kloros.storage import artifacts
os.setgid({gid}); os.setuid({uid})
root = Path("/var/lib/kloros/artifacts")
artifacts.stage(root, "disk_report", "planted", {{"disk_report.py": b"import os; os.system('touch /tmp/planted')"}})
artifacts.make_current(root, "disk_report", "planted")
"""


def package(says: str, *, at_import: str = "", at_start: str = "pass", in_cycle: str = "pass") -> dict[str, str]:
    """The files of a version."""
    source = at_import + SOURCE.format(at_start=at_start, in_cycle=in_cycle)
    return {"disk_report.py": source, "disk_words.py": f"SAYS = {says!r}\n"}


class Own:
    """A daemon of one's own in a suite with an optimiser."""

    def __init__(self, suite: Suite) -> None:
        self.suite, self.machine = suite, suite.machine
        for name, source in package("installed").items():
            self.machine.write_file(f"/etc/kloros/consumers/{name}", source)
        self.machine.write_file("/etc/kloros/optimiser_config.toml", SETTINGS)
        # Long enough for a swap to have all the time that its settings give it: a cycle ends with its budget.
        suite.schedule(disk_report=1.0, optimisation=30.0)
        suite.start("kloros-scheduler", OPTIMISER, UNIT)
        self.wait_until_it_says("installed")

    def stage(self, files: dict[str, str]) -> str:
        """As root; returns the version."""
        self.machine.run("rm", "-rf", FOLDER)
        for name, source in files.items():
            self.machine.write_file(f"{FOLDER}/{name}", source)
        told = json.loads(self.suite.kloros("module", "stage", MODULE, FOLDER, "--json"))
        return str(told["version"])

    def activate(self, version: str) -> tuple[int, str]:
        """Have the optimiser do it; the command's exit code, and all that it said."""
        done = self.machine.run("kloros", "module", "activate", MODULE, version, check=False, limit_s=90)
        return done.returncode, done.stdout + done.stderr

    def current(self) -> str:
        """The version that the pointer leads to."""
        return self.machine.run("readlink", f"{ARTIFACTS}/current", check=False).stdout.strip()

    def flags(self) -> list[dict[str, Any]]:
        """What waits for a person."""
        told = json.loads(self.suite.kloros("review", "list", "--json"))
        found: list[dict[str, Any]] = told["flags"] if isinstance(told, dict) else told
        return found

    def says(self, since: int = 0) -> list[str]:
        """What its cycles said, version by version, in order."""
        return [str(entry["KLOROS_SAYS"]) for entry in self.suite.events(UNIT, "disk", since)]

    def wait_until_it_says(self, word: str, since: int = 0, limit_s: float = 20) -> None:
        wait_for(lambda: self.says(since)[-1:] == [word], limit_s, f"a cycle of {word}")


@pytest.fixture
def own(suite: Suite) -> Own:
    return Own(suite)


def test_a_good_package_is_confirmed_and_each_broken_one_gives_way_to_it_within_half_a_minute(own: Own) -> None:
    with own.suite.listening("Q_REFLECTION_REPORT", "HEARTBEAT", "FLAG_FOR_REVIEW") as heard:

        def verdicts() -> list[str]:
            return [each["facts"]["verdict"] for each in heard() if each["signal"] == "Q_REFLECTION_REPORT"]

        def runs() -> list[str | None]:
            told = [each["facts"] for each in heard() if each["signal"] == "HEARTBEAT"]
            return [facts.get("artifact") for facts in told if facts["zooid"] == MODULE]

        good = own.stage(package("staged"))
        owners = own.machine.sh(f"stat -c '%U %a' {ARTIFACTS}/{good} {ARTIFACTS}/{good}/*").split("\n")[:-1]
        assert set(owners) == {"root 755", "root 644"}
        code, told = own.activate(good)
        assert code == 0, told
        wait_for(lambda: verdicts() == ["CONFIRMED"], 60, "the end of its probation")
        own.wait_until_it_says("staged")
        assert runs()[-1] == f"{MODULE}/{good}"
        assert own.current() == good
        assert f"runs {MODULE}/{good}" in own.machine.show(UNIT, "StatusText")

        for count, (name, how) in enumerate(BROKEN.items(), 1):
            version, mark = own.stage(package(name, **how)), own.machine.journal_mark()
            begun_s = float(own.machine.sh("date +%s.%N"))
            own.activate(version)
            wait_for(lambda count=count: verdicts()[1:] == ["REVERTED"] * count, 60, f"what {name} goes back")
            own.wait_until_it_says("staged", own.machine.journal_mark())
            back = [entry for entry in own.suite.events(UNIT, "disk", mark) if entry["KLOROS_SAYS"] == "staged"]
            told_s = [int(entry["__REALTIME_TIMESTAMP"]) / 1e6 - begun_s for entry in back]
            gap_s = _longest_silence_s([0.0, *told_s])
            print(f"what {name}: served again after {gap_s:.1f} s")
            assert gap_s < SERVES_AGAIN_S
            assert own.current() == good
            wait_for(lambda: runs()[-1] == f"{MODULE}/{good}", 15, "a heart that says so")
        assert len([flag for flag in own.flags() if flag["reason"] == "swap_reverted"]) >= 1
        assert any(each["signal"] == "FLAG_FOR_REVIEW" for each in heard())


def _longest_silence_s(moments_s: list[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(moments_s))


def test_what_the_daemons_user_plants_is_never_executed(own: Own) -> None:
    ids = {name: own.machine.sh(f"id -{name[0]} kloros").strip() for name in ("uid", "gid")}
    own.machine.run("install", "-d", "-o", "kloros", "-m", "700", ARTIFACTS)
    own.machine.run(PYTHON, "-c", PLANTING.format(**ids))
    assert own.current() == "planted"
    mark = own.machine.journal_mark()
    own.machine.systemctl("restart", UNIT)
    own.wait_until_it_says("installed", mark)
    (refused,) = own.suite.events(UNIT, "package_refused", mark)
    assert f"user {ids['uid']} could have written its code; only root may" in refused["KLOROS_REASON"]
    assert "kloros module stage" in refused["KLOROS_CURE"]
    code, told = own.activate("planted")
    assert code != 0, told
    assert "could have written its code" in own.suite.kloros("module", "list", MODULE)
    as_it = ("setpriv", f"--reuid={ids['uid']}", f"--regid={ids['gid']}", "--clear-groups")
    done = own.machine.run(*as_it, "kloros", "module", "stage", MODULE, "/etc/kloros/consumers", check=False)
    assert "code is staged by root" in done.stderr
