"""What the suite needs to be in order: settings, directories, locks, the bus, the scheduler, ports."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from kloros.cli.diagnosis.finding import Finding
from kloros.errors import ConfigError, KlorosError, NoBus
from kloros.machine.privileged_client import PrivilegedClient
from kloros.machine.privileged_policy import load_policy
from kloros.place import SYSTEM_RUNTIME_DIR, Place

GROUP = "kloros"
POLICY = "helper_policy.toml"
MIN_FREE_BYTES = 50 << 20


def config(place: Place) -> Iterator[Finding]:
    """Every settings file, by its reader."""
    from kloros.cli.config import READERS

    errors = []
    for name, read in READERS.items():
        try:
            read(place.config / name)
        except KlorosError as error:
            errors.append(
                Finding("settings", "bad", str(error), f"mend {place.config / name}; then kloros config check")
            )
    yield from errors or [Finding("settings", "good", str(place.config))]


def directories(place: Place) -> Iterator[Finding]:
    """The state and runtime directories."""
    for name, path in (("state", place.state), ("runtime", place.runtime)):
        yield _directory(f"{name} directory", path)


def _directory(name: str, path: Path) -> Finding:
    nearest = next(each for each in (path, *path.parents) if each.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        cure = "be root or the suite's own user, or set KLOROS_STATE_DIR and KLOROS_RUNTIME_DIR"
        # An installed suite's directories belong to its own user: a visitor is no fault.
        verdict = "note" if path.exists() else "bad"
        return Finding(name, verdict, f"{nearest} may not be written by you", cure)  # type: ignore[arg-type]
    disk = os.statvfs(nearest)
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < MIN_FREE_BYTES:
        return Finding(
            name, "bad", f"{path}: only {free_bytes >> 20} MiB free", "make room; state is kept in memory only"
        )
    return Finding(name, "good", str(path) if path.exists() else f"{path} (will be made)")


def membership(_place: Place) -> Iterator[Finding]:
    """Whether you may speak to the installed suite, where there is one."""
    if not SYSTEM_RUNTIME_DIR.is_dir():
        yield Finding("group", "good", "no installed suite; yours needs no group")
        return
    if os.access(SYSTEM_RUNTIME_DIR, os.X_OK):
        yield Finding("group", "good", f"you may speak to the suite in {SYSTEM_RUNTIME_DIR}")
        return
    try:
        grp.getgrnam(GROUP)
        cure = f"sudo usermod -aG {GROUP} $USER, then log in anew"
    except KeyError:
        cure = "sudo scripts/install makes the group"
    yield Finding("group", "bad", f"you may not look into {SYSTEM_RUNTIME_DIR}", cure)


def privileged_helper(place: Place) -> Iterator[Finding]:
    """Whether what takes root can be done, and whether the policy is one that the helper will follow."""
    name, path = "privileged helper", place.config / POLICY
    if not PrivilegedClient(place.runtime).is_there:
        cure = "systemctl enable --now kloros-helper.socket, where the suite is installed"
        yield Finding(name, "note", "not there: units are not restarted, limits not raised, versions not swapped", cure)
        return
    try:
        load_policy(path)
    except ConfigError as error:
        cure = f"chown root: {path}; chmod 644 {path}; mend what it names; until then the helper does nothing"
        yield Finding(name, "bad", str(error), cure)
    else:
        yield Finding(name, "good", f"it does what {path} allows")


def locks(place: Place) -> Iterator[Finding]:
    """Who holds the locks; a lock nobody holds is harmless."""
    held, free = [], 0
    for path in sorted(place.runtime.glob("*.lock")) if os.access(place.runtime, os.R_OK | os.X_OK) else []:
        holder = _holder(path)
        if holder is None:
            free += 1
        else:
            held.append(f"{path.stem} (process {holder})")
    found = f"held: {', '.join(held)}" if held else "none held"
    yield Finding("locks", "good", found + (f"; {free} left over, which is harmless" if free else ""))


def _holder(path: Path) -> str | None:
    """Who holds the lock, as its file tells; None when nobody does."""
    import json

    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return str(json.loads(file.read() or "{}").get("pid", "unknown"))
    except (OSError, ValueError):
        return "unknown"
    return None


def bus(place: Place) -> Iterator[Finding]:
    """The bus, and who answers on it."""
    from kloros.cli.client import Client
    from kloros.cli.roll_call import call_the_roll

    try:
        with Client("HEARTBEAT", "Q_SCHEDULE_TICK", place=place, name="kloros_doctor") as client:
            report = call_the_roll(client)
    except NoBus as error:
        yield Finding("bus", "bad", f"there is none at {error.endpoint}", str(error.hint))
        return
    except KlorosError as error:
        yield Finding("bus", "bad", str(error), "kloros status; journalctl -u kloros-chem-proxy")
        return
    yield Finding("bus", "good", f"{place.runtime}, {report.forwarded} messages forwarded")
    silent = [daemon.zooid for daemon in report.daemons if not daemon.answered]
    heard = [daemon for daemon in report.daemons if daemon.answered]
    for zooid in silent:
        unit = "kloros-" + zooid.removesuffix("_daemon").replace("_", "-")
        yield Finding(zooid, "bad", "does not answer", f"systemctl start {unit}; journalctl -u {unit}")
    if heard:
        yield Finding("daemons", "good", f"{len(heard)} answer")
    for complaint in report.complaints:
        if complaint.split()[0] not in silent:
            yield Finding("daemons", "bad", complaint, "kloros status tells more")


def metrics_ports(place: Place) -> Iterator[Finding]:
    """Whether the ports for metrics are free or taken by the suite itself."""
    from kloros.cli.config import READERS
    from kloros.daemon.suite_settings import SuiteSettings

    try:
        suite = READERS["kloros.toml"](place.config / "kloros.toml")
    except KlorosError:
        return  # told by `config` already
    assert isinstance(suite, SuiteSettings)
    if not suite.metrics.enabled:
        yield Finding("metrics ports", "good", "metrics are switched off")
        return
    taken = [
        f"{port} ({name})"
        for name, port in suite.metrics.ports.items()
        if port and _is_taken(suite.metrics.address, port)
    ]
    if not taken:
        yield Finding("metrics ports", "good", "all free")
    else:
        cure = "fine if the installed suite holds them; otherwise change [metrics.ports] in kloros.toml"
        yield Finding("metrics ports", "note", f"in use: {', '.join(taken)}", cure)


def _is_taken(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False
