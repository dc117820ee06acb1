"""What the benchmarks share: a private place, child processes that say when they are ready, percentiles, tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
QUEUE_MESSAGES = 100_000  # of every proxy, ours and the bare one: what config/kloros.toml gives ours

# As wide as its tables, also through a pipe.
console = Console(width=None if sys.stdout.isatty() else 132, highlight=False)


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark understands."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="short rounds: to see that it works, not to quote")
    parser.add_argument("--rounds", type=int, default=None, help="how often the contenders take turns")
    return parser


def machine() -> str:
    """The machine in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = f"{os.cpu_count()} cores ({models[0] if models else 'unknown'})"
    return f"{cores}, Linux {platform.release()}, Python {platform.python_version()}"


def print_machine() -> None:
    """Say what the figures below were measured on, and how busy it was with other things."""
    console.print(f"{machine()}; load average {os.getloadavg()[0]:.2f} at the start")


def in_turns(contenders: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Every contender once per round, each round begun by another one, so that no one always has the quiet moment."""
    for number in range(rounds):
        for shift in range(len(contenders)):
            contender = contenders[(number + shift) % len(contenders)]
            console.print(f"  round {number + 1} of {rounds}: {contender}", style="dim")
            yield number, contender


# Places and processes


@dataclass(frozen=True)
class Room:
    """Directories of a suite of its own, on a private socket path."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config"

    @property
    def runtime(self) -> Path:
        return self.path / "run"

    def environment(self) -> dict[str, str]:
        """What makes KLoROS processes live here."""
        return os.environ | {
            "KLOROS_CONFIG_DIR": str(self.config),
            "KLOROS_STATE_DIR": str(self.path / "state"),
            "KLOROS_RUNTIME_DIR": str(self.runtime),
            "PYTHONUNBUFFERED": "1",
        }


@contextmanager
def room() -> Iterator[Room]:
    """A new Room, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="kb") as path:
        there = Room(Path(path))
        for directory in (there.config, there.runtime):
            directory.mkdir(mode=0o750)
        yield there


class Child:
    """A process that prints a line for each stage it reaches."""

    def __init__(self, arguments: Sequence[str], room: Room) -> None:
        self._what = " ".join(arguments[:3])
        self._log = (room.path / f"{len(list(room.path.glob('*.log')))}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env=room.environment(),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_line(self, expected: str, limit_s: float = READY_WITHIN_S) -> str:
        """Wait for a line that begins with `expected`; returns the rest of it."""
        stdout = self._process.stdout
        assert stdout is not None
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            if select.select([stdout], [], [], 0.5)[0]:
                line = stdout.readline()
                if line.startswith(expected):
                    return line.removeprefix(expected).strip()
                if not line:
                    break
        self._log.seek(0)
        raise RuntimeError(f"{self._what} did not say {expected!r}:\n{self._log.read()[-4000:]}")

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()

    def wait(self, limit_s: float) -> None:
        """Wait until it has ended by itself."""
        self._process.wait(limit_s)


def script(name: str, *arguments: object) -> list[str]:
    """The command line of a module of this directory."""
    return [str(HERE / name), *map(str, arguments)]


@contextmanager
def children(room: Room) -> Iterator[Callable[[Sequence[str]], Child]]:
    """A function that starts processes in `room`; they are stopped in reverse."""
    with ExitStack() as stack:

        def start(arguments: Sequence[str]) -> Child:
            child = Child(arguments, room)
            stack.callback(child.stop)
            return child

        yield start


def free_port() -> int:
    """A loopback TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_s(pid: int) -> float:
    """CPU seconds that the threads of a process have used so far, to the microsecond."""
    return sum(int(times.read_text().split()[0]) for times in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def voluntary_switches(pid: int) -> int:
    """How often the threads of a process went to sleep, which is how often they were woken up."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def memory_mib(pid: int) -> tuple[float, float]:
    """RSS, and PSS (which shares out what several processes have in common), in MiB."""
    sizes = {
        line.split(":")[0]: int(line.split()[1])
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    }
    return sizes["Rss"] / 1024, sizes["Pss"] / 1024


# Figures


def percentile(ranked: Sequence[float], percent: float) -> float:
    """Nearest rank, of sorted values."""
    return ranked[max(0, -(-int(percent * len(ranked)) // 100) - 1)] if ranked else float("nan")


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """The median over rounds of the ratio within a round: what a machine that slows down for a while cannot change."""
    return median(a / b for a, b in zip(of, to, strict=True))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> None:
    """Print a table; the first column holds names, the others figures."""
    shown = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for number, column in enumerate(columns):
        shown.add_column(column, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*row)
    console.print()
    console.print(shown)


def dump(path: Path, value: object) -> Path:
    """Write `value` as JSON."""
    path.write_text(json.dumps(value))
    return path
