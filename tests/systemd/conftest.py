"""The tier that runs the installed suite under a real systemd (root and systemd-nspawn needed)."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.systemd.machine import CHECKOUT, CHECKOUT_INSIDE, WHEELS_INSIDE, Files, Machine, booted, sweep
from tests.systemd.own_kernel import OwnKernel, what_is_missing
from tests.systemd.suite import Suite
from tests.systemd.wheels import SYSTEM_PYTHON, wheelhouse

TOOLS = {"systemd-nspawn": "systemd-container", "nsenter": "util-linux", "setpriv": "util-linux", "pgrep": "procps"}
HERE = Path(__file__).parent


def _missing() -> str | None:
    """What this tier lacks here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            return f"needs {tool} (Debian: apt install {package})"
    if not any(Path("/usr/bin", name).exists() for name in ("dbus-daemon", "dbus-broker")):
        return "needs a D-Bus daemon (Debian: apt install dbus)"
    venv = subprocess.run([SYSTEM_PYTHON, "-c", "import venv, ensurepip"], capture_output=True, check=False)
    return f"needs {SYSTEM_PYTHON} with venv (Debian: apt install python3-venv)" if venv.returncode else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tier; on a laptop that lacks something skip it and say why, in CI fail."""
    mine = [item for item in items if HERE in item.path.parents]
    missing = _missing() if mine else None
    for item in mine:
        item.add_marker(pytest.mark.systemd)
        item.add_marker(pytest.mark.timeout(300))  # the first one also builds the wheels and installs the suite
        if missing and os.environ.get("CI") != "true":
            item.add_marker(pytest.mark.skip(reason=f"the systemd tier {missing}"))


@dataclasses.dataclass(frozen=True)
class Installed:
    """The suite installed once: the files to boot machines on, and what scripts/install printed."""

    files: Files
    binds: dict[Path, str]
    output: str


@pytest.fixture(scope="session")
def binds(request: pytest.FixtureRequest) -> dict[Path, str]:
    if missing := _missing():
        pytest.fail(f"the systemd tier {missing}")
    sweep()
    wheels = wheelhouse(request.config.cache.mkdir("systemd-tier"), CHECKOUT)
    return {CHECKOUT: CHECKOUT_INSIDE, wheels: WHEELS_INSIDE}


def run_install(machine: Machine, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    pip = ["PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELS_INSIDE}"]
    return machine.run("env", *pip, f"{CHECKOUT_INSIDE}/scripts/install", *arguments, check=check, limit_s=120)


@pytest.fixture(scope="session")
def installed(binds: dict[Path, str]) -> Iterator[Installed]:
    """scripts/install run once, in a machine that is then stopped; its files carry every other machine."""
    with booted(binds) as machine:
        result = run_install(machine)
        yield Installed(machine.stop(), binds, result.stdout)


@pytest.fixture
def machine(installed: Installed) -> Iterator[Machine]:
    """A freshly booted machine with the suite installed and nothing started, for one test."""
    with booted(installed.binds, installed.files) as machine:
        yield machine


@pytest.fixture(scope="module")
def own_kernel(installed: Installed) -> Iterator[OwnKernel]:
    """A machine with the suite installed and nothing started, whose kernel nobody else has."""
    if missing := what_is_missing():
        pytest.skip(f"a kernel of one's own {missing}")
    with closing(OwnKernel(installed.files)) as machine:
        yield machine


@pytest.fixture
def suite(machine: Machine) -> Suite:
    """The suite in a fresh machine, installed and not started."""
    return Suite(machine)
