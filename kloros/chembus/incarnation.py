"""The name of one run of one publisher, which tells when that run began."""

from __future__ import annotations

import secrets
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kloros.clock import Clock
from kloros.units import seconds_to_us

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Incarnation(NamedTuple):
    """Which machine run (`boot`), and when on its monotonic clock, which no one can step."""

    boot: str
    started_us: int


def new_pub(name: str, clock: Clock) -> str:
    """A fresh name `<name>@<boot>.<monotonic microseconds>.<random>`."""
    return f"{name[:64]}@{this_boot()}.{seconds_to_us(clock.monotonic_s())}.{secrets.token_hex(4)}"


def parse_pub(pub: str) -> Incarnation | None:
    """When and where that run began; None when the name does not tell."""
    boot, _, rest = pub.rpartition("@")[2].partition(".")
    started, _, token = rest.partition(".")
    if not (token and boot and started.isascii() and started.isdigit() and len(started) <= 20):
        return None
    return Incarnation(boot, int(started))


@lru_cache(maxsize=1)
def this_boot() -> str:
    """Eight hex digits that change with every boot; random per process where the kernel does not tell."""
    try:
        return _BOOT_ID.read_text("ascii").replace("-", "")[:8]
    except (OSError, ValueError):
        return secrets.token_hex(4)
