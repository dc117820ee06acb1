"""The kloros command as its user has it: a process in directories of its own, and a suite that it speaks to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 30.0


class Home:
    """Directories of one person's suite; `config` is a copy that may be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(Path(__file__).parents[2] / "config", folder / "config")
        places = {f"KLOROS_{name.upper()}_DIR": str(folder / name) for name in ("config", "state", "runtime")}
        self.places = places
        self.environment = {**os.environ, **places, "NO_COLOR": "1", "TZ": "UTC"}

    def change(self, file: str, old: str, new: str) -> None:
        """Write `new` for the first `old` in a settings file."""
        path = self.folder / "config" / file
        text = path.read_text()
        assert old in text, f"{old} is not in {file}"
        path.write_text(text.replace(old, new, 1))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kloros ARGUMENTS`; both outputs are pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "kloros.cli", *arguments],
            env=self.environment,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # As scripts/run begins it: until the command listens itself, a Ctrl-C is not heard at all.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `kloros ARGUMENTS` to its end."""
        process = self.begin(*arguments)
        stdout, stderr = process.communicate(timeout=LIMIT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def held_locks(self) -> list[str]:
        """The locks that somebody holds."""
        import fcntl

        held = []
        for path in (self.folder / "runtime").glob("*.lock"):
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(path.name)
        return held


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Both outputs of a process that was sent a SIGINT; once more if it came before the command listened."""
    try:
        return process.communicate(timeout=LIMIT_S / 3)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=LIMIT_S)


@contextmanager
def home() -> Iterator[Home]:
    """A home with paths short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="kl", dir="/tmp") as folder:
        yield Home(Path(folder))


@contextmanager
def running(place: Home, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`kloros run --plain` in that home, once its first tick was seen; stopped by SIGTERM."""
    process = place.begin("run", "--plain", *arguments)
    assert process.stdout
    assert process.stderr
    try:
        for line in process.stdout:
            if "Q_SCHEDULE_TICK" in line:
                break
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT_S)
