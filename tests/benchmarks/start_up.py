"""(e) How long things take to start: the verbs of the command line, and each daemon until it is READY.

Beside a bare Python, because that is what nobody can go below. READY is what systemd would be told.
"""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from harness import Room, arguments, console, in_turns, print_machine, room, table
from idle import CONFIG, DAEMONS

READY_WITHIN_S = 20.0
BARE = "bare Python"
VERBS: dict[str, list[str]] = {
    BARE: ["-c", "pass"],
    "kloros --version": ["-m", "kloros.cli", "--version"],
    "kloros --help": ["-m", "kloros.cli", "--help"],
    "kloros schedule --help": ["-m", "kloros.cli", "schedule", "--help"],
    "kloros config check": ["-m", "kloros.cli", "config", "check"],
    "kloros schedule show": ["-m", "kloros.cli", "schedule", "show"],
    "kloros bus emit STATUS_REQUEST": ["-m", "kloros.cli", "bus", "emit", "STATUS_REQUEST"],
}


def main(given_arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = arguments(__doc__ or "").parse_args(given_arguments)
    rounds = given.rounds or (2 if given.quick else 7)
    print_machine()
    names = [*VERBS, *DAEMONS]
    spans: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        with room() as place:
            shutil.copytree(CONFIG, place.config, dirs_exist_ok=True)
            settings = place.config / "kloros.toml"
            settings.write_text(settings.read_text().replace("enabled = true", "enabled = false", 1))
            with suite(place, spans):
                for _, name in in_turns(list(VERBS), 1):
                    spans[name].append(_verb(VERBS[name], place))
    rows = [[name, f"{1000 * median(spans[name]):.0f}", f"{1000 * min(spans[name]):.0f}"] for name in names]
    table(f"Start-up ({rounds} rounds)", ("what", "median ms", "best ms"), rows)


@contextmanager
def suite(place: Room, spans: dict[str, list[float]]) -> Iterator[None]:
    """All daemons, one after the other; how long each took to be READY goes to `spans`."""
    processes = []
    try:
        for stem, module in DAEMONS.items():
            notified = place.path / f"{stem}.notify"
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
                listener.bind(str(notified))
                began_s = time.monotonic()
                environment = place.environment() | {"NOTIFY_SOCKET": str(notified)}
                processes.append(
                    subprocess.Popen([sys.executable, "-m", module], env=environment, stderr=subprocess.DEVNULL)
                )
                _await_ready(listener, stem)
                spans[stem].append(time.monotonic() - began_s)
        yield
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _await_ready(listener: socket.socket, stem: str) -> None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while select.select([listener], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        if b"READY=1" in listener.recv(4096):
            return
    raise RuntimeError(f"{stem} was not READY within {READY_WITHIN_S:g} s")


def _verb(arguments: Sequence[str], place: Room) -> float:
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, *arguments], env=place.environment(), capture_output=True, text=True, check=False
    )
    span_s = time.monotonic() - began_s
    if done.returncode:
        console.print(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return span_s


if __name__ == "__main__":
    main()
