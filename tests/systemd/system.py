"""What is asked of a booted system, in whatever way it was booted."""

from __future__ import annotations

import abc
import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

POLL_S = 0.02

T = TypeVar("T")
Result = subprocess.CompletedProcess[str]


class Waited(AssertionError):
    """A condition did not come true within its limit."""


def wait_for(condition: Callable[[], T], limit_s: float, what: str = "", poll_s: float = POLL_S) -> T:
    """Ask until the answer is truthy and return it."""
    deadline = time.monotonic() + limit_s
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise Waited(f"not within {limit_s} s: {what or condition}; last answer {answer!r}")
        time.sleep(poll_s)


class System(abc.ABC):
    """`run` is root's shell in it."""

    @abc.abstractmethod
    def execute(self, command: tuple[str, ...], stdin: str, limit_s: float) -> Result:
        """Run a command inside as root, to its end."""

    def run(self, *command: str, check: bool = True, limit_s: float = 30, stdin: str = "") -> Result:
        """Run a command inside as root, to its end, which has to be a good one if it is to be checked."""
        result = self.execute(command, stdin, limit_s)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
        return result

    def sh(self, script: str, **options: Any) -> str:
        """Run a shell script inside and return what it printed."""
        return str(self.run("sh", "-euc", script, **options).stdout)

    def systemctl(self, *arguments: str, **options: Any) -> str:
        return str(self.run("systemctl", *arguments, **options).stdout)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit).strip()

    def kill(self, unit: str, signal_name: str) -> None:
        """Send a signal to a unit's main process."""
        self.systemctl("kill", "--kill-whom=main", f"--signal={signal_name}", unit)

    def is_ready(self, unit: str) -> bool:
        return self.show(unit, "ActiveState") == "active"

    def journal(self, unit: str | None = None, since: int = 0, **fields: str) -> list[dict[str, Any]]:
        """Journal entries, oldest first. since: a `journal_mark`. fields: matches, such as KLOROS_EVENT="beat"."""
        command = ["journalctl", "--output=json", "--all", "--no-pager"]
        command += ["--unit", unit] if unit else []
        command += [f"{name}={value}" for name, value in fields.items()]
        entries = [json.loads(line) for line in self.run(*command).stdout.splitlines()]
        # Not journalctl's --after-cursor: together with a match it misses entries (seen with systemd 252).
        return [entry for entry in entries if _sequence_number(entry["__CURSOR"]) > since]

    def journal_mark(self) -> int:
        """A mark to give to `journal(since=...)`: where the journal ends now."""
        self.run("journalctl", "--sync")
        return _sequence_number(self.run("journalctl", "--lines=0", "--show-cursor").stdout.split("cursor: ")[1])

    def write_file(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside, making its directories."""
        self.run("install", "-D", "-m", f"{mode:o}", "/dev/stdin", path, stdin=text)

    def read_file(self, path: str) -> str:
        return self.run("cat", path).stdout


def _sequence_number(cursor: str) -> int:
    return int(re.search(r"i=([0-9a-f]+)", cursor)[1], 16)  # type: ignore[index]
