"""When a unit counts as unwell, judged from what systemd says of it. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kloros.consumers.introspection.findings import Evidence, Severity

# Exit statuses that systemd itself gives to a process it could not set up: systemd.exec(5).
_SETUP_STATUS = {
    200: "CHDIR", 201: "NICE", 202: "FDS", 203: "EXEC", 204: "MEMORY", 205: "LIMITS", 206: "OOM_ADJUST",
    207: "SIGNAL_MASK", 208: "STDIN", 209: "STDOUT", 210: "CHROOT", 211: "IOPRIO", 212: "TIMERSLACK", 213: "SECUREBITS",
    214: "SETSCHEDULER",
    215: "CPUAFFINITY", 216: "GROUP", 217: "USER", 218: "CAPABILITIES", 219: "CGROUP", 220: "SETSID", 221: "CONFIRM",
    222: "STDERR", 224: "PAM", 225: "NETWORK", 226: "NAMESPACE", 227: "NO_NEW_PRIVILEGES", 228: "SECCOMP",
    229: "SELINUX_CONTEXT", 230: "PERSONALITY", 231: "APPARMOR_PROFILE", 232: "ADDRESS_FAMILIES",
    233: "RUNTIME_DIRECTORY",
    235: "CHOWN", 236: "SMACK_PROCESS_LABEL", 237: "KEYRING", 238: "STATE_DIRECTORY", 239: "CACHE_DIRECTORY",
    240: "LOGS_DIRECTORY", 241: "CONFIGURATION_DIRECTORY", 242: "NUMA_POLICY", 243: "CREDENTIALS", 245: "BPF",
}  # fmt: skip
_KILLED_OR_DUMPED = (2, 3)  # CLD_KILLED, CLD_DUMPED of waitid(2)


class UnitFacts(NamedTuple):
    """What was read of one unit. None: it has no such property.

    was_to_restart: whether it came to its state from waiting for its restart, not from running.
    """

    name: str
    active: str
    sub: str
    result: str | None = None
    main_code: int | None = None
    main_status: int | None = None
    restarts: int | None = None
    start_burst: int | None = None
    was_to_restart: bool = False
    in_state_s: float | None = None


class Verdict(NamedTuple):
    """What is wrong with a unit."""

    problem: str
    severity: Severity
    summary: str
    evidence: Evidence


def judge_failed(unit: UnitFacts) -> Verdict:
    """A unit in the state `failed`."""
    gave_up = unit.result == "start-limit-hit" or _lost_its_restart(unit)
    how = f"{unit.name} {'was started too often and given up' if gave_up else 'failed'}: {explain(unit)}"
    problem = "start_limited" if gave_up else "failed"
    return Verdict(problem, Severity.HIGH, how, evidence_of(unit, problem))


def _lost_its_restart(unit: UnitFacts) -> bool:
    """Whether systemd refused to restart it again: the result then still tells of the crash before.

    The restarts alone do not say so: they are counted since it was last started by hand, be that weeks ago.
    """
    return unit.was_to_restart and 0 < (unit.start_burst or 0) <= (unit.restarts or 0)


def judge_stuck(unit: UnitFacts, stuck_after_s: float) -> Verdict | None:
    """A unit that has been starting or stopping for too long."""
    if unit.in_state_s is None or unit.in_state_s < stuck_after_s:
        return None
    if unit.sub == "auto-restart" and unit.result == "success":
        return None  # a service that ends well and is started again after a pause
    problem = "waiting_to_restart" if unit.sub == "auto-restart" else "stuck"
    stuck, waiting = f"has been {unit.active} ({unit.sub})", f"waits to be restarted after {explain(unit)}"
    summary = f"{unit.name} {stuck if problem == 'stuck' else waiting} for {unit.in_state_s:.0f} s"
    return Verdict(problem, Severity.MEDIUM, summary, evidence_of(unit, problem))


def judge_flapping(unit: UnitFacts, restarts_in_window: int, window_s: float) -> Verdict:
    """A unit that was restarted again and again."""
    summary = f"{unit.name} was restarted {restarts_in_window} times in {window_s:.0f} s (last result: {explain(unit)})"
    evidence = evidence_of(unit, "flapping") | {"restarts_in_window": restarts_in_window, "window_s": window_s}
    return Verdict("flapping", Severity.MEDIUM, summary, evidence)


def judge_held_up(unit: str, needs: str) -> Verdict:
    """A unit that is down because another failed."""
    summary = f"{unit} is down: {needs}, which it requires, failed"
    evidence: Evidence = {"unit": unit, "problem": "held_up", "state": "inactive/dead", "needs": needs}
    return Verdict("held_up", Severity.HIGH, summary, evidence)


def explain(unit: UnitFacts) -> str:
    """Why it ended, in systemd's own words: `exit-code, status 203/EXEC`."""
    if not unit.main_code or unit.result not in ("exit-code", "signal", "core-dump", "watchdog", "oom-kill"):
        return unit.result or "unknown"
    status = unit.main_status or 0
    if unit.main_code in _KILLED_OR_DUMPED:
        return f"{unit.result}, signal {status}"
    return f"{unit.result}, status {status}" + (f"/{_SETUP_STATUS[status]}" if status in _SETUP_STATUS else "")


def evidence_of(unit: UnitFacts, problem: str) -> Evidence:
    """What is known, without what is not."""
    known = {
        "unit": unit.name,
        "problem": problem,
        "state": f"{unit.active}/{unit.sub}",
        "result": unit.result,
        "exit": explain(unit) if unit.main_code else None,
        "restarts": unit.restarts,
    }
    return {name: value for name, value in known.items() if value is not None}


class RestartHistory:
    """Counts a unit's automatic restarts within a sliding window, from readings of its NRestarts."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._last: int | None = None
        self._grown: deque[tuple[float, int]] = deque()

    def read(self, restarts: int, now_s: float) -> bool:
        """Take a reading; returns whether it grew. A smaller one means an operator reset or restarted the unit."""
        grown_by = 0 if self._last is None else restarts - self._last
        self._last = restarts
        if grown_by < 0:
            self._grown.clear()
        elif grown_by > 0:
            self._grown.append((now_s, grown_by))
        while self._grown and now_s - self._grown[0][0] > self._window_s:
            self._grown.popleft()
        return grown_by > 0

    @property
    def in_window(self) -> int:
        """Restarts within the window up to the last reading."""
        return sum(by for _, by in self._grown)
