"""A machine in which the optimiser is watched at work: what is planted there, and what is heard and asked meanwhile."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.systemd.conftest import Installed
from tests.systemd.machine import booted
from tests.systemd.suite import INTROSPECTION, OPTIMISER, SEMANTIC_DEDUP, Suite
from tests.systemd.system import wait_for

Facts = dict[str, Any]
SETTINGS = "/etc/kloros/optimiser_config.toml"
KILL_FILE = "/var/lib/kloros/optimiser/KILL"
DELAY_FILE = "/etc/kloros/planted_delay_s"
GREEDY = "kloros-consumer@greedy:Greedy.service"
HEARD = (
    "Q_IMPROVEMENT_ACTION", "Q_ENACTMENT", "Q_REFLECTION_REPORT", "Q_CYCLE_REPORT", "FLAG_FOR_REVIEW", "HEARTBEAT",
    "OPTIMISER_PAUSE", "OPTIMISER_STATE",
)  # fmt: skip
INTERVALS_S = {
    "introspection_scan": 1.0, "semantic_dedup": 1.0, "greedy": 1.0, "optimisation": 2.0, "affect_sensing": 10.0,
    "ledger_flush": 10.0, "curiosity_generation": 15.0, "tournament_evaluation": 15.0, "shadow_evaluation": 30.0,
    "investigation_processing": 30.0, "action_processing": 30.0, "memory_decay": 600.0, "history_rotate": 600.0,
}  # fmt: skip
OWN_BUDGET_S = 0.7310585
WINDOW_S = 20.0
# The shipped settings, in quick; the modes stay as they are installed.
QUICK = {
    "limits": {"max_enactments": "100", "max_hot_swaps": "100", "cool_down_s": "0.0"},
    "verification": {"settle_s": "2.0", "min_samples": "5", "max_harm": "0.4"},
    "profile": {"window_s": str(WINDOW_S)},
    "hot_swap": {"probation_cycles": "3"},
    # What else this computer does meanwhile makes many slow for a moment.
    "detector": {
        "latency_p95_threshold_ms": "20000.0", "latency_p99_threshold_ms": "40000.0", "error_rate_threshold": "0.5",
        "spike_ratio_threshold": "1000.0",
    },
    "modules.introspection": {"latency_p95_threshold_ms": "500.0", "latency_p99_threshold_ms": "1000.0"},
}  # fmt: skip
BUDGETS = f"""
[bus]
compat_tcp = true

[cycles.budgets_s]
introspection = 0.8
# As long as by the shipped schedule: a restart may take its time.
optimiser = 48.0
greedy = {OWN_BUDGET_S}
"""
# A package of somebody else: a scanner that takes its time, and an embedder that takes the process with it.
PLANTED = f"""
import os
import time
from pathlib import Path


class Slow:
    name = "planted"
    timeout_s = 5.0

    def scan(self, now):
        time.sleep(float(Path("{DELAY_FILE}").read_text()))
        return []


def crashing():
    os.abort()
"""
POINTS = """
[kloros.scanners]
planted = planted:Slow
[kloros.embedders]
crashing = planted:crashing
"""
PACKAGES = 'import sysconfig; print(sysconfig.get_path("purelib"))'
# The more time it is given, the more it takes.
GREEDY_SOURCE = """
from kloros.daemon.consumer import Consumer


class Greedy(Consumer):
    schedule = "greedy"
    signal = "Q_TRIGGER_GREEDY"
    interval_s = 1.0

    def cycle(self, cycle):
        cycle.cancelled.wait(0.4 * cycle.budget_s)
        cycle.processed = 1
"""
# With a version that says so, the unit does not come up.
WILL_NOT_START = """
[Service]
ExecStartPre=/bin/sh -c '! grep -qs unstartable /var/lib/kloros/artifacts/semantic_dedup/current/parameters.toml'
"""


class AtWork:
    """The suite, and what is heard of it from before its start on."""

    def __init__(self, suite: Suite, heard: Callable[[], list[dict[str, Any]]]) -> None:
        self.suite, self.machine, self._heard, self._actions = suite, suite.machine, heard, 0

    # Doing

    def delay(self, seconds: float) -> float:
        """So long the planted scanner takes from now on; returns the moment."""
        self.machine.write_file(DELAY_FILE, str(seconds))
        return time.time()

    def propose(self, kind: str, module: str, **told: Any) -> str:
        """An action on the bus, by hand; returns its id."""
        self._actions += 1
        action_id = f"i-by-hand-{self._actions}"
        self.suite.emit("Q_IMPROVEMENT_ACTION", "optimisation", **self.action(kind, module, action_id), **told)
        return action_id

    @staticmethod
    def action(kind: str, module: str, action_id: str) -> Facts:
        return {
            "action_id": action_id, "module_name": module, "action_kind": kind, "priority": 0.9,
            "rationale": "somebody at this machine thinks so",
        }  # fmt: skip

    def stage(self, version: str, settings: str) -> Facts:
        """Stage settings of semantic_dedup with the command; the shadow is said to promote them."""
        self.machine.write_file(f"/root/{version}.toml", settings)
        told = self.suite.kloros("module", "stage", "semantic_dedup", f"/root/{version}.toml", "--version", version,
                                 "--json")  # fmt: skip
        sha256 = json.loads(told)["sha256"]
        named = {"artifact": f"semantic_dedup/{version}", "sha256": sha256, "candidate_id": f"c-{version}"}
        self.suite.emit(
            "Q_SHADOW_VERDICT", "dream", candidate={}, verdict="promote", module_name="semantic_dedup", **named
        )
        return {**named, "source": "shadow"}

    # Hearing

    def messages(self, signal: str, **wanted: Any) -> list[dict[str, Any]]:
        """What was heard under that signal, with these facts."""
        return [
            message for message in self._heard()
            if message["signal"] == signal and wanted.items() <= message["facts"].items()
        ]  # fmt: skip

    def wait_for(self, signal: str, limit_s: float = 20.0, since_ts: float = 0.0, **wanted: Any) -> dict[str, Any]:
        """The first such message after a moment."""

        def found() -> list[dict[str, Any]]:
            return [each for each in self.messages(signal, **wanted) if each["ts"] >= since_ts]

        first: dict[str, Any] = wait_for(found, limit_s, f"{signal} {wanted}")[0]
        return first

    def enactment(self, action_id: str, limit_s: float = 20.0) -> Facts:
        """What became of an action."""
        facts: Facts = self.wait_for("Q_ENACTMENT", limit_s, action_id=action_id)["facts"]
        return facts

    def verdict(self, action_id: str, limit_s: float = 40.0) -> Facts:
        """What came of a change in the end."""
        facts: Facts = self.wait_for("Q_REFLECTION_REPORT", limit_s, action_id=action_id)["facts"]
        return facts

    def budget_s(self, zooid: str) -> float:
        """What that daemon says it is now."""
        asked_ts = time.time()
        self.suite.emit("STATUS_REQUEST", "colony", zooid=zooid)
        return float(self.wait_for("HEARTBEAT", since_ts=asked_ts, zooid=zooid)["facts"]["budget_s"])

    def wait_for_cycles(self, daemon: str, count: int) -> None:
        """Until so many cycles of it were told of."""
        wait_for(lambda: len(self.messages("Q_CYCLE_REPORT", daemon=daemon)) >= count, 20, f"{count} of {daemon}")

    # Asking

    def asked(self, *command: str) -> Any:
        """What a command of kloros tells programs."""
        return json.loads(self.suite.kloros(*command, "--json"))

    def explained(self, action_id: str) -> Facts:
        facts: Facts = self.asked("optimiser", "explain", action_id)
        return facts

    def flags(self, **wanted: Any) -> list[Facts]:
        """What needs a person, by the command."""
        return [flag for flag in self.asked("review", "list") if wanted.items() <= flag.items()]

    def in_force(self) -> str | None:
        version: str | None = self.asked("module", "list", "semantic_dedup")["in_force"]["semantic_dedup"]
        return version

    def pid(self, unit: str = SEMANTIC_DEDUP) -> str:
        return self.machine.show(unit, "MainPID")


@contextmanager
def at_work(installed: Installed) -> Iterator[AtWork]:
    """The whole suite, with what is planted, in the modes of a first installation."""
    with booted(installed.binds, installed.files) as machine:
        suite = Suite(machine)
        packages = suite.python(PACKAGES).strip()
        files = {
            SETTINGS: quickened(machine.read_file(SETTINGS)), DELAY_FILE: "0", "/etc/kloros/kloros.toml": BUDGETS,
            "/etc/kloros/consumers/greedy.py": GREEDY_SOURCE, f"{packages}/planted.py": PLANTED,
            f"{packages}/planted-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: planted\nVersion: 1\n",
            f"{packages}/planted-1.dist-info/entry_points.txt": POINTS,
            f"/etc/systemd/system/{SEMANTIC_DEDUP}.d/90-planted.conf": WILL_NOT_START,
        }  # fmt: skip
        for path, text in files.items():
            machine.write_file(path, text)
        suite.schedule(**INTERVALS_S)
        machine.systemctl("daemon-reload")
        suite.start("kloros-chem-proxy")
        with suite.listening(*HEARD) as heard:
            suite.start("kloros.target", GREEDY)
            for unit in (INTROSPECTION, OPTIMISER, GREEDY):
                suite.wait_for_cycles(1, unit=unit)
            yield AtWork(suite, heard)


def quickened(text: str) -> str:
    """The settings file with other values for some of its keys."""
    for table, values in QUICK.items():
        for key, value in values.items():
            line = rf"(^\[{re.escape(table)}\]\n(?:(?!\[)[^\n]*\n)*?{key} = )[0-9.]+"
            text, count = re.subn(line, rf"\g<1>{value}", text, flags=re.MULTILINE)
            assert count == 1, (table, key)
    return text
