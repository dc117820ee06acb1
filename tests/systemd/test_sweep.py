"""What a killed run of tests left mounted goes with the next one, however many begin at once."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.systemd import cgroups
from tests.systemd.machine import CHECKOUT, PREFIX, sweep

SWEEP = "from tests.systemd.machine import sweep; sweep()"
BOOT_AND_DIE = """
import os
from tests.systemd.machine import Machine
print(Machine({}).name, flush=True)
os.kill(os.getpid(), 9)
"""


def test_several_may_sweep_at_once() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    left = [Path(tempfile.mkdtemp(prefix=f"{PREFIX}{ended.pid}-", dir="/var/tmp")) for _ in range(8)]
    for directory in left:
        root = directory / "root"
        subprocess.run(["mount", "-t", "tmpfs", "left", str(directory)], check=True)
        root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "left", str(root)], check=True)
    sweepers = [
        subprocess.Popen([sys.executable, "-c", SWEEP], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [(sweeper.communicate()[1], sweeper.returncode) for sweeper in sweepers] == [("", 0)] * 3
    assert [directory for directory in left if directory.exists()] == []


def test_a_machine_does_not_outlive_the_next_run() -> None:
    died = subprocess.run(
        [sys.executable, "-c", BOOT_AND_DIE], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False
    )
    name = died.stdout.strip()
    if not cgroups.left_over(name):
        pytest.skip("the host's systemd keeps the groups of its machines")
    sweep()
    assert cgroups.left_over(name) == []
