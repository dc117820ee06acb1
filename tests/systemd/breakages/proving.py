"""A machine with the installed suite, everything that can break broken at once, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kloros.machine.pressure import read_pressure
from tests.systemd.breakages.base import Breakage
from tests.systemd.breakages.course import HEARD, Course, Message, courses, others
from tests.systemd.breakages.resources import HOG_MAY_LEAVE_KIB, HOG_SHARE
from tests.systemd.suite import Suite

LOOK_EVERY_S = 0.25
# The default schedule, in quick.
INTERVALS_S = {
    "introspection_scan": 1.0, "curiosity_generation": 1.0, "semantic_dedup": 1.0, "investigation_processing": 1.0,
    "action_processing": 1.0, "shadow_evaluation": 10.0, "tournament_evaluation": 10.0, "memory_decay": 60.0,
    "ledger_flush": 10.0, "history_rotate": 60.0, "affect_sensing": 10.0, "optimisation": 10.0,
}  # fmt: skip
# A person's machine waits longer before it calls something lasting, and something mended over.
QUICK = """
[units]
flap_window_s = 15.0

[journal]
quiet_after_s = 6.0
flood_lines = 50

[pressure]
cpu_some = {{ medium_percent = {busy:.0f}, high_percent = 99, critical_percent = 100, leave_percent = {calm:.0f} }}

[memory]
used = {{ medium_percent = {high:.0f}, high_percent = 97, critical_percent = 99, leave_percent = {low:.0f} }}
"""
FOLDING = """
[batch]
wait_s = 1.0
"""
# A beat of the actions waits for them to settle, which takes longer than the second between two beats.
BUDGETS = """
[cycles.budgets_s]
action_consumer = 60.0
investigation_consumer = 60.0
"""
ACTIONS = """
[kinds.restart_unit]
mode = "auto"
settle_s = 3.0

[kinds.reset_failed]
mode = "auto"
settle_s = 3.0

[kinds.raise_limit]
mode = "approve"
settle_s = 3.0
"""
POLICY = """
[units]
restart = ["try-*.service"]
start = ["try-*.service"]
reset_failed = ["try-*.service"]
limit = ["try-*.service"]
"""


@dataclass
class Proving:
    """What was done and heard. still_busy: the host has so much else to do that the finding about it is still true."""

    breakages: Sequence[Breakage]
    broken_ts: float = 0.0
    mended_ts: float = 0.0
    courses: dict[str, Course] = field(default_factory=dict)
    others: list[tuple[str, str]] = field(default_factory=list)
    still_open: list[str] = field(default_factory=list)
    still_busy: bool = False


def settle_in(suite: Suite) -> float:
    """Quick settings, and the suite started. Returns the CPU pressure above which a finding about it stays open."""
    total_kib, available_kib = _memory_kib(Path("/proc/meminfo").read_text())
    used_percent = 100 * (1 - available_kib / total_kib)
    # Above what the machine has to do anyway.
    busy_percent = min(95.0, max(65.0, 20 + cpu_pressure()))
    suite.schedule(**INTERVALS_S)
    files = {
        "introspection_config.toml": QUICK.format(
            high=used_percent + 12, low=used_percent + 6, busy=busy_percent, calm=busy_percent - 5
        ),
        "semantic_dedup_consumer_config.toml": FOLDING,
        "action_consumer_config.toml": ACTIONS,
        "helper_policy.toml": POLICY,
        "kloros.toml": BUDGETS,
    }
    suite.machine.write_file(HOG_MAY_LEAVE_KIB, str(round(available_kib - HOG_SHARE * total_kib)))
    for name, text in files.items():
        suite.machine.write_file(f"/etc/kloros/{name}", text)
    suite.start()
    suite.wait_for_cycles(1)
    return busy_percent - 5


def break_and_mend(
    suite: Suite,
    breakages: Sequence[Breakage],
    answer_within_s: float,
    mend_within_s: float,
    calm_percent: float = 60.0,
) -> Proving:
    """Break everything, wait for what comes of it, mend everything, wait for it to be over.

    What does not come in time is for the judges of each course to say.
    """
    proving = Proving(breakages)
    with suite.listening(*HEARD) as heard:
        for breakage in breakages:
            _lay_down(suite, breakage.files)
        suite.machine.systemctl("daemon-reload")
        proving.broken_ts = time.time()
        for breakage in breakages:
            suite.machine.sh(breakage.commands)
        _wait(lambda: _have_ended(suite, breakages, heard()), answer_within_s)
        for breakage in breakages:
            _lay_down(suite, breakage.repaired)
        suite.machine.systemctl("daemon-reload")
        proving.mended_ts = time.time()
        for breakage in breakages:
            suite.machine.sh(breakage.mending)
        _wait(lambda: all(course.is_closed for course in courses(breakages, heard()).values()), mend_within_s)
        proving.still_busy = cpu_pressure() >= calm_percent - 10
        proving.courses, proving.others = courses(breakages, heard()), others(breakages, heard())
    listed = json.loads(suite.kloros("questions", "--open", "--json"))["questions"]
    proving.still_open = [question["question"] for question in listed]
    return proving


def cpu_pressure() -> float:
    """Percent of the last minute in which somebody waited for a CPU, on this whole host."""
    return read_pressure(Path("/proc/pressure/cpu"))["some"].avg60


def _have_ended(suite: Suite, breakages: Sequence[Breakage], heard: Sequence[Message]) -> bool:
    found = courses(breakages, heard)
    for course in found.values():
        if action_id := course.waits_for_approval:
            suite.machine.run("kloros", "approve", action_id, check=False)
    return all(course.has_ended for course in found.values())


def _lay_down(suite: Suite, files: Any) -> None:
    for path, text in files.items():
        suite.machine.write_file(path, text, 0o755 if text.startswith("#!") else 0o644)


def _wait(condition: Callable[[], bool], limit_s: float) -> None:
    """As long as it takes and no longer than that; looking costs the machine something too."""
    deadline_s = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(LOOK_EVERY_S)


def _memory_kib(meminfo: str) -> tuple[int, int]:
    """(total, available)"""
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.splitlines()}
    return sizes["MemTotal"], sizes["MemAvailable"]
