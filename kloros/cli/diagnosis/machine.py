"""What the machine must offer: Python, systemd, D-Bus, the journal, pressure figures, a synchronised clock."""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from kloros.cli.diagnosis.finding import Finding
from kloros.clock import SystemClock
from kloros.place import Place

SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
JOURNAL_DIRS = (Path("/run/log/journal"), Path("/var/log/journal"))
PRESSURE_DIR = Path("/proc/pressure")
CONNECT_TIMEOUT_S = 1.0
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9._-]+")


def python(_place: Place) -> Iterator[Finding]:
    """The interpreter, and the packages that kloros needs."""
    missing = [name for name in _required_packages() if not _is_installed(name)]
    found = f"{platform.python_version()} ({sys.executable})"
    if missing:
        cure = f"{sys.executable} -m pip install {' '.join(missing)}"
        yield Finding("python", "bad", f"{found}, without {', '.join(missing)}", cure)
    else:
        yield Finding("python", "good", found)


def _required_packages() -> list[str]:
    try:
        lines = requires("kloros") or []
    except PackageNotFoundError:  # run from a source tree that was never installed
        return []
    return [_PACKAGE_NAME.findall(line)[0] for line in lines if "extra ==" not in line]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def systemd(_place: Place) -> Iterator[Finding]:
    """Whether systemd runs this machine."""
    if Path("/run/systemd/system").is_dir():
        yield Finding("systemd", "good", "this machine runs under systemd")
    else:
        cure = "none needed: `kloros run` works without; units are not watched"
        yield Finding("systemd", "note", "this machine was not booted with systemd", cure)


def dbus(_place: Place) -> Iterator[Finding]:
    """The system bus, over which units are watched."""
    reason = _refusal(SYSTEM_BUS, socket.SOCK_STREAM)
    if reason is None:
        yield Finding("D-Bus", "good", str(SYSTEM_BUS))
    else:
        cure = "apt install dbus, systemctl start dbus; without it units are not watched"
        yield Finding("D-Bus", "note", f"{SYSTEM_BUS}: {reason}", cure)


def journal(_place: Place) -> Iterator[Finding]:
    """The journal: written to by the daemons, read by introspection."""
    reason = _refusal(JOURNAL_SOCKET, socket.SOCK_DGRAM)
    readable = [path for path in JOURNAL_DIRS if os.access(path, os.R_OK | os.X_OK)]
    if reason is not None:
        yield Finding("journal", "note", f"{JOURNAL_SOCKET}: {reason}", "logs go to stderr instead; nothing to do")
    elif not readable:
        cure = "be root or a member of group systemd-journal; without it journal errors are not watched"
        yield Finding("journal", "note", "it may be written but not read", cure)
    else:
        yield Finding("journal", "good", f"written, and read from {readable[0]}")


def pressure(_place: Place) -> Iterator[Finding]:
    """Pressure stall information."""
    try:
        (PRESSURE_DIR / "cpu").read_text()
    except OSError as error:
        cure = "boot with psi=1 on a kernel from 4.20 on; without it pressure is not watched"
        yield Finding("pressure (PSI)", "note", f"{PRESSURE_DIR}: {error.strerror}", cure)
    else:
        yield Finding("pressure (PSI)", "good", str(PRESSURE_DIR))


def clock(_place: Place) -> Iterator[Finding]:
    """Whether the kernel calls the wall clock synchronised."""
    match SystemClock().synchronised():
        case True:
            yield Finding("clock", "good", "synchronised")
        case False:
            cure = "timedatectl set-ntp true (systemd-timesyncd or chrony); beats follow the clock, right or wrong"
            yield Finding("clock", "note", "not synchronised", cure)
        case None:
            yield Finding("clock", "note", "the kernel does not tell whether it is synchronised")


def _refusal(path: Path, kind: int) -> str | None:
    """Why the Unix socket cannot be connected to; None when it can."""
    with socket.socket(socket.AF_UNIX, kind) as link:
        link.settimeout(CONNECT_TIMEOUT_S)
        try:
            link.connect(str(path))
        except OSError as error:
            return error.strerror or str(error)
    return None
