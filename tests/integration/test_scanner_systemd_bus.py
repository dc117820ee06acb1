"""Asking systemd over a real D-Bus that has no systemd on it, goes away and comes back."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kloros.errors import CannotObserve
from kloros.machine.systemd_bus import SystemdBus

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")

CONFIG = """<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/>{allowed}</policy></busconfig>"""
EVERYTHING = '<allow send_destination="*"/><allow receive_sender="*"/>'
# A bus that takes calls but lets no answer through.
NO_ANSWERS = '<allow send_type="method_call"/>'

StartBus = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartBus]:
    """Starts a private bus, always at the same address."""
    socket, config = tmp_path / "bus", tmp_path / "bus.conf"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={socket}")
    started: list[subprocess.Popen[bytes]] = []

    def start(allowed: str = EVERYTHING) -> subprocess.Popen[bytes]:
        config.write_text(CONFIG.format(socket=socket, allowed=allowed))
        socket.unlink(missing_ok=True)
        command = ["dbus-daemon", "--nofork", "--print-address", f"--config-file={config}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"unix:")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def systemd() -> Iterator[SystemdBus]:
    bus = SystemdBus()
    yield bus
    bus.close()


def test_a_bus_without_systemd_is_a_lack(start_bus: StartBus, systemd: SystemdBus) -> None:
    start_bus()
    for _ in range(2):
        with pytest.raises(CannotObserve, match="does not answer over D-Bus"):
            systemd.units([], [])


def test_a_bus_that_goes_is_named_and_one_that_was_restarted_is_used_at_once(
    start_bus: StartBus, systemd: SystemdBus
) -> None:
    first = start_bus()
    with pytest.raises(CannotObserve, match="does not answer"):
        systemd.units([], [])
    first.kill()
    first.wait()
    with pytest.raises(CannotObserve, match="cannot be asked"):
        systemd.units([], [])
    second = start_bus()
    with pytest.raises(CannotObserve, match="does not answer"):
        systemd.units([], [])
    second.kill()
    second.wait()
    start_bus()
    with pytest.raises(CannotObserve, match="does not answer"):
        systemd.units([], [])


def test_a_bus_that_does_not_answer_is_given_up_in_time(start_bus: StartBus, systemd: SystemdBus) -> None:
    mute = start_bus(NO_ANSWERS)
    with pytest.raises(CannotObserve, match="cannot be asked"):
        systemd.units([], [])
    mute.kill()
    mute.wait()
    start_bus()
    with pytest.raises(CannotObserve, match="does not answer"):
        systemd.units([], [])
