"""A unit's recent life, read from systemd's own lines about it. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from kloros.units import US_PER_S

_KEPT = 50
_RECENT_US = 3_600 * US_PER_S
# The process that systemd forks tells of its failed set-up before systemd says that it was started.
_SLACK_US = US_PER_S // 10

# Exit statuses that systemd itself gives to a process it could not set up: systemd.exec(5).
SETUP_STEPS = {
    200: "CHDIR", 201: "NICE", 202: "FDS", 203: "EXEC", 204: "MEMORY", 205: "LIMITS", 206: "OOM_ADJUST",
    207: "SIGNAL_MASK", 208: "STDIN", 209: "STDOUT", 210: "CHROOT", 211: "IOPRIO", 212: "TIMERSLACK", 213: "SECUREBITS",
    214: "SETSCHEDULER", 215: "CPUAFFINITY", 216: "GROUP", 217: "USER", 218: "CAPABILITIES", 219: "CGROUP",
    220: "SETSID", 221: "CONFIRM", 222: "STDERR", 224: "PAM", 225: "NETWORK", 226: "NAMESPACE",
    227: "NO_NEW_PRIVILEGES", 228: "SECCOMP", 229: "SELINUX_CONTEXT", 230: "PERSONALITY", 231: "APPARMOR_PROFILE",
    232: "ADDRESS_FAMILIES", 233: "RUNTIME_DIRECTORY", 235: "CHOWN", 236: "SMACK_PROCESS_LABEL", 237: "KEYRING",
    238: "STATE_DIRECTORY", 239: "CACHE_DIRECTORY", 240: "LOGS_DIRECTORY", 241: "CONFIGURATION_DIRECTORY",
    242: "NUMA_POLICY", 243: "CREDENTIALS", 245: "BPF",
}  # fmt: skip
_EXITED = re.compile(r"(?P<who>Main|Control) process exited, code=(?P<code>\w+), status=(?P<status>\d+)")
_FAILED = re.compile(r"Failed with result '(?P<result>[\w-]+)'")
_STEP = re.compile(r"Failed at step (?P<step>\w+) spawning (?P<program>.+): (?P<reason>[^:]+)$")
_SENT = re.compile(r"Sent signal SIG(?P<signal>\w+) to main process \d+ \((?P<name>[^)]*)\) on client request")
_TIMED_OUT = re.compile(
    r"(?P<start>[Ss]tart operation|start\S* operation) timed out|State '(?P<state>[\w-]+)' timed out"
)
_WATCHDOG = re.compile(r"Watchdog timeout \(limit (?P<limit>[^)]+)\)")
_ENDED_WELL = re.compile(r"Deactivated successfully|^Stopped |^Finished ")
_RESTART = re.compile(r"restart counter is at (\d+)")
_UNIT_FILE = re.compile(r"^/\S+:\d+: |has a bad unit file setting|configuration has fatal error|Refusing\.$")


class End(NamedTuple):
    """A process of the unit ended. code: exited, killed, dumped. ran_s: since its start, where that was seen."""

    ts_us: int
    code: str
    status: int
    is_main: bool
    ran_s: float | None = None


class Life(msgspec.Struct, kw_only=True):
    """What systemd's lines tell.

    failed_us: each time it failed. told_us: when something bad was told last. What follows is of the last run that
    ended badly. step: the step of its set-up that failed. timed_out: `start`, `stop`, or empty. gave_up: and it was not
    started since. sent: signals that somebody had systemd send, in the last hour. longest_run_s: of all runs that were
    seen to begin and end.
    """

    starts_us: list[int] = []
    ends: list[End] = []
    failed_us: list[int] = []
    told_us: int = 0
    restarts: int = 0
    sent: list[str] = []
    longest_run_s: float = 0.0
    result: str = ""
    gave_up: bool = False
    step: str = ""
    step_program: str = ""
    step_reason: str = ""
    timed_out: str = ""
    watchdog: str = ""
    oom: bool = False
    dependency: bool = False
    unit_file_line: str = ""

    @property
    def last(self) -> End | None:
        """The last end of a main process; of any process when none of a main one was seen."""
        candidates = [end for end in self.ends if end.is_main] or self.ends
        return candidates[-1] if candidates else None

    @property
    def kills(self) -> list[str]:
        """The signals that its main processes died of, in order."""
        return [signal_name(end.status) for end in self.ends if end.is_main and end.code in ("killed", "dumped")]


def signal_name(number: int) -> str:
    """`KILL` for 9."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def read_life(lines: Iterable[tuple[int, str]]) -> Life:
    """lines: (moment in microseconds, systemd's message), the oldest first."""
    life = Life()
    marks: list[tuple[int, dict[str, Any]]] = []
    started_us: int | None = None
    for ts_us, message in lines:
        if message.startswith("Started ") or (message.startswith("Starting ") and message.endswith("...")):
            if started_us is None or message.startswith("Starting "):  # `Starting`, `Started` are one start
                life.starts_us.append(ts_us)
                started_us = ts_us
        elif started_us is not None and _ENDED_WELL.search(message):
            life.longest_run_s = max(life.longest_run_s, (ts_us - started_us) / US_PER_S)
            started_us = None
        elif match := _EXITED.search(message):
            ran_s = None if started_us is None else (ts_us - started_us) / US_PER_S
            is_main = match["who"] == "Main"
            life.ends.append(End(ts_us, match["code"], int(match["status"]), is_main, ran_s))
            life.longest_run_s = max(life.longest_run_s, ran_s or 0.0)
            started_us = None
        elif told := _told(message):
            marks.append((ts_us, told))
    _put(life, marks)
    life.starts_us, life.ends, life.failed_us = life.starts_us[-_KEPT:], life.ends[-_KEPT:], life.failed_us[-_KEPT:]
    return life


def _put(life: Life, marks: list[tuple[int, dict[str, Any]]]) -> None:
    """Take over what was told since the start of the last run that ended; how often, from all of them."""
    told_us = [ts_us for ts_us, _ in marks] + [end.ts_us for end in life.ends]
    life.told_us = last_us = max(told_us, default=0)
    begun_us = max((start for start in life.starts_us if start <= last_us), default=0)
    for ts_us, told in marks:
        if "result" in told:
            life.failed_us.append(ts_us)
        if "restarts" in told:
            life.restarts = told["restarts"]
        elif "sent" in told:
            if last_us - ts_us <= _RECENT_US:
                life.sent.append(told["sent"])
        elif ts_us >= begun_us - _SLACK_US:
            _put_one(life, told)
    if life.gave_up and life.starts_us and life.starts_us[-1] > max(life.failed_us, default=0):
        life.gave_up = False


def _put_one(life: Life, told: dict[str, Any]) -> None:
    if life.unit_file_line.startswith("/") and "unit_file_line" in told:
        return  # the first one that names a line of the file is the reason, the others follow from it
    for name, value in told.items():
        setattr(life, name, value)


def _told(message: str) -> dict[str, Any]:
    if match := _FAILED.search(message):
        return {"result": match["result"]}
    if match := _STEP.search(message):
        return {"step": match["step"], "step_program": match["program"], "step_reason": match["reason"]}
    if match := _SENT.search(message):
        return {"sent": match["signal"]}
    if match := _TIMED_OUT.search(message):
        return {"timed_out": "stop" if (match["state"] or "").startswith(("stop", "final")) else "start"}
    if match := _WATCHDOG.search(message):
        return {"watchdog": match["limit"]}
    if "Start request repeated too quickly" in message:
        return {"gave_up": True}
    if match := _RESTART.search(message):
        return {"restarts": int(match[1])}
    if "killed by the OOM killer" in message or "The kernel OOM killer killed" in message:
        return {"oom": True}
    if message.startswith("Dependency failed for"):
        return {"dependency": True}
    return {"unit_file_line": message} if _UNIT_FILE.search(message) else {}
