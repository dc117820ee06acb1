"""Pressure as the kernel measures it (PSI): the share of time in which work had to wait."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kloros.errors import CannotObserve

RESOURCES = ("cpu", "memory", "io")


class Shares(NamedTuple):
    """Percent of the last 10 s and of the last 60 s, and all waiting since boot, in microseconds."""

    avg10: float
    avg60: float
    total_us: int


def read_pressure(path: Path) -> dict[str, Shares]:
    """`some` (at least one task waited) and `full` (all did: nothing got done) of a PSI file: that of the machine
    (/proc/pressure/cpu), or of a control group (cpu.pressure).

    Raises:
        CannotObserve: There is no such file, or the kernel does not measure it.
    """
    try:
        return parse_pressure(path.read_text(encoding="ascii"))
    except OSError as error:
        raise CannotObserve(reason=f"no pressure information in {path} ({error.strerror})") from error


def parse_pressure(text: str) -> dict[str, Shares]:
    """As `read_pressure`, from the file's text. Lines that do not fit are left out."""
    shares = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields)
        if "avg10" in values and "avg60" in values:
            total_us = int(values.get("total", 0))
            shares[kind] = Shares(float(values["avg10"]), float(values["avg60"]), total_us)
    return shares
