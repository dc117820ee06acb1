"""One instance only, and the one that is refused learns whom to look for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kloros.daemon.guard import InstanceLock
from kloros.errors import AlreadyRunning, ConfigError


def test_the_second_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    first = InstanceLock(tmp_path / "x.lock", "scheduler", "2026-01-01 00:00:00 UTC")
    with pytest.raises(AlreadyRunning) as caught:
        InstanceLock(tmp_path / "x.lock", "scheduler", "later")
    assert (caught.value.pid, caught.value.since) == (os.getpid(), "2026-01-01 00:00:00 UTC")
    assert caught.value.exit_code == 2
    first.close()
    InstanceLock(tmp_path / "x.lock", "scheduler", "later").close()


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal; from pathlib import Path; from kloros.daemon.guard import InstanceLock\n"
        f"lock = InstanceLock(Path({str(tmp_path)!r}) / 'x.lock', 'scheduler', 'then')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    InstanceLock(tmp_path / "x.lock", "scheduler", "now").close()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="runtime directory"):
        InstanceLock(tmp_path / "file" / "x.lock", "scheduler", "now")
