"""Asks the journal what it has about a unit, the kernel or a program: the last lines, bounded in number and time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kloros.errors import CannotObserve
from kloros.machine.commands import output_of
from kloros.machine.deadline import Deadline
from kloros.machine.journal_reader import text_of
from kloros.units import US_PER_S

_FIELDS = (
    "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "_COMM", "_PID", "_TRANSPORT", "_SYSTEMD_UNIT", "UNIT", "EXIT_CODE",
    "EXIT_STATUS", "UNIT_RESULT", "JOB_RESULT", "COMMAND", "KLOROS_EVENT", "COREDUMP_UNIT", "COREDUMP_SIGNAL_NAME",
)  # fmt: skip
_LINE_BYTES = 8_192
_CALL_S = 10.0


class JournalLine(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. `by_manager`: systemd's own words about the unit, or those of the process it forks for it."""

    ts_us: int
    message: str
    priority: int = 6
    identifier: str = ""
    pid: int = 0
    unit: str = ""
    by_manager: bool = False
    from_kernel: bool = False
    event: str = ""
    exit_code: str = ""
    exit_status: str = ""
    unit_result: str = ""
    job_result: str = ""
    command: str = ""
    dumped: str = ""


class JournalQuery:
    """Runs journalctl once per question."""

    def __init__(self, command: Sequence[str] = ("journalctl",)) -> None:
        self._command = [*command, "-q", "--no-pager", "-o", "json", "--output-fields=" + ",".join(_FIELDS)]

    def of_unit(self, unit: str, limit: int, deadline: Deadline, since_us: int | None = None) -> list[JournalLine]:
        """The last lines by the unit and about it, the oldest first. Raises CannotObserve."""
        return self._ask(["--unit", unit], limit, deadline, since_us)

    def of_kernel(self, limit: int, deadline: Deadline, since_us: int | None = None) -> list[JournalLine]:
        """The kernel's last lines, the oldest first. Raises CannotObserve."""
        return self._ask(["_TRANSPORT=kernel"], limit, deadline, since_us)

    def of_identifier(
        self, identifier: str, limit: int, deadline: Deadline, since_us: int | None = None
    ) -> list[JournalLine]:
        """The last lines of a program by the name it gives itself. Raises CannotObserve."""
        return self._ask(["--identifier", identifier], limit, deadline, since_us)

    def latest(
        self, limit: int, deadline: Deadline, since_us: int | None = None, priority: int = 7
    ) -> list[JournalLine]:
        """The last lines of anybody of at least that importance, the oldest first. Raises CannotObserve."""
        return self._ask([f"--priority={priority}"], limit, deadline, since_us)

    def _ask(self, what: list[str], limit: int, deadline: Deadline, since_us: int | None) -> list[JournalLine]:
        where = [] if since_us is None else [f"--since=@{since_us // US_PER_S}"]
        # The newest first: after a --since, --lines alone gives the oldest ones.
        command = [*self._command, *what, "--reverse", f"--lines={limit}", *where]
        said = output_of(command, deadline.within(_CALL_S), limit * _LINE_BYTES)
        return [line for line in map(_parsed, reversed(said.splitlines())) if line is not None]


def _parsed(line: bytes) -> JournalLine | None:
    try:
        fields = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None  # the last line of an answer that was cut off
    if not isinstance(fields, dict):
        return None
    told = {name: text_of(value) for name, value in fields.items()}
    identifier = told.get("SYSLOG_IDENTIFIER") or told.get("_COMM", "")
    from_manager = bool(told.get("UNIT")) and (identifier == "systemd" or identifier.startswith("("))
    return JournalLine(
        ts_us=_number(told.get("__REALTIME_TIMESTAMP"), 0),
        message=told.get("MESSAGE", ""),
        priority=_number(told.get("PRIORITY"), 6),
        identifier=identifier,
        pid=_number(told.get("_PID"), 0),
        unit=told.get("UNIT" if from_manager else "_SYSTEMD_UNIT", ""),
        by_manager=from_manager,
        from_kernel=told.get("_TRANSPORT") == "kernel",
        event=told.get("KLOROS_EVENT", ""),
        exit_code=told.get("EXIT_CODE", ""),
        exit_status=told.get("EXIT_STATUS", ""),
        unit_result=told.get("UNIT_RESULT", ""),
        job_result=told.get("JOB_RESULT", ""),
        command=told.get("COMMAND", ""),
        dumped=told.get("COREDUMP_SIGNAL_NAME", "") if told.get("COREDUMP_UNIT") else "",
    )


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdigit() else otherwise


def no_journal(error: CannotObserve) -> str:
    """Why there are no lines, as evidence says it."""
    return f"the journal ({error.reason})"
