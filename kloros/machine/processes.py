"""Processes: who they are, to which unit they belong, what they use; other users' as far as /proc shows them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kloros.machine.cgroups import unit_of
from kloros.machine.names import readable

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_COMMAND_CHARS = 120


class Process(NamedTuple):
    """One process at one moment. cpu_s: CPU time so far. io_bytes: None where it may not be seen."""

    pid: int
    name: str
    unit: str
    cpu_s: float
    memory_bytes: int
    started_ticks: int
    io_bytes: int | None = None


class Processes:
    """What /proc tells."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def all(self) -> list[Process]:
        """Every process that is visible."""
        with os.scandir(self._proc) as entries:
            return list(self.some(int(entry.name) for entry in entries if entry.name.isdigit()))

    def some(self, pids: Iterable[int]) -> Iterable[Process]:
        """Those of `pids` that still are."""
        for pid in pids:
            process = self._read(pid)
            if process is not None:
                yield process

    def one(self, pid: int) -> Process | None:
        """The process `pid`, if it is."""
        return self._read(pid)

    def _read(self, pid: int) -> Process | None:
        directory = f"{self._proc}/{pid}"
        try:
            stat = _text(f"{directory}/stat")
            name, _, rest = stat.partition("(")[2].rpartition(")")
            fields = rest.split()  # from the third field of proc_pid_stat(5) on
            return Process(
                pid=pid,
                name=name,
                unit=unit_of(_group(_text(f"{directory}/cgroup"))),
                cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_PER_S,
                memory_bytes=int(fields[21]) * _PAGE_BYTES,
                started_ticks=int(fields[19]),
                io_bytes=_io_bytes(directory),
            )
        except (OSError, ValueError, IndexError):
            return None  # gone

    def command(self, pid: int) -> str:
        """Its command line, shortened; empty when it is gone or has none."""
        try:
            text = _text(f"{self._proc}/{pid}/cmdline")
        except OSError:
            return ""
        return " ".join(text.split("\0")).strip()[:_COMMAND_CHARS]

    def open_files(self, pid: int) -> int | None:
        """How many descriptors it has open; None where it may not be seen."""
        try:
            return len(os.listdir(f"{self._proc}/{pid}/fd"))  # noqa: PTH208 - only the count
        except OSError:
            return None

    def targets(self, pid: int, at_most: int) -> list[str]:
        """What its descriptors are open on (`/var/log/x (deleted)`, `socket:[42]`); empty where it may not be seen."""
        found: list[str] = []
        try:
            with os.scandir(f"{self._proc}/{pid}/fd") as entries:
                for entry in entries:
                    found.append(readable(os.readlink(entry.path)))  # noqa: PTH115 - thousands of them
                    if len(found) >= at_most:
                        break
        except OSError:
            pass
        return found


def _group(text: str) -> str:
    """The path of the group that systemd manages: v2's, or the hierarchy named systemd."""
    paths = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2}
    managed = paths.get("name=systemd", "")
    return managed if unit_of(managed) else paths.get("", "")


def _io_bytes(directory: str) -> int | None:
    try:
        fields = dict(line.split(": ") for line in _text(f"{directory}/io").splitlines())
        return int(fields["read_bytes"]) + int(fields["write_bytes"])
    except (OSError, ValueError, KeyError):
        return None


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - thousands of them
        return file.read()
