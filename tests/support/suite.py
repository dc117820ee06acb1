"""The suite as processes, in directories of its own, with an outsider who hears the bus."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import SystemClock

ROOT = Path(__file__).parents[2]
LIMIT_S = 20.0

PROXY = "kloros.orchestration.chem_proxy_daemon"
SCHEDULER = "kloros.orchestration.scheduler_daemon"
INTROSPECTION = "kloros.consumers.introspection_daemon"


class Suite:
    """Processes of one suite in directories of its own, and an outsider who hears the bus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "config", folder / "config")
        places = {f"KLOROS_{name.upper()}_DIR": str(folder / name) for name in ("config", "state", "runtime")}
        self.environment = {**os.environ, **places, "PYTHONPATH": str(folder)}
        with (folder / "config" / "kloros.toml").open("r+") as file:
            text = file.read()
            file.seek(0)
            file.write(text.replace("enabled = true", "enabled = false"))
            file.truncate()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[IO[bytes]] = []
        self.bus: ZmqBus | None = None
        self._heard: deque[Message] = deque()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Run `python -m COMMAND` as part of this suite; its output goes to a log named after it."""
        log = (self.folder / f"{command[0]}.log").open("ab")
        self._logs.append(log)
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=self.environment, cwd=self.folder, stdout=log, stderr=log
        )
        self.processes.append(process)
        return process

    def log(self, module: str) -> list[dict[str, object]]:
        """The JSON lines that a process has logged so far."""
        lines = (self.folder / f"{module}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def join(self, *topics: str) -> ZmqBus:
        """An outsider on the bus, as soon as there is one."""
        (self.folder / "runtime").mkdir(exist_ok=True)
        self.bus = ZmqBus(Endpoints.for_runtime_dir(self.folder / "runtime"), name="outsider")
        for topic in topics:
            self.bus.subscribe(topic)
        self.bus.join(LIMIT_S)
        return self.bus

    def hear(self, wanted: Callable[[Message], bool]) -> Message:
        """The next message that is wanted; those before it are passed over."""
        assert self.bus
        clock = SystemClock()
        end_s = clock.monotonic_s() + LIMIT_S
        while clock.monotonic_s() < end_s:
            if not self._heard:
                self.bus.pollables()[0].poll(100)
                self._heard.extend(self.bus.receive())
            while self._heard:
                message = self._heard.popleft()
                if wanted(message):
                    return message
        raise AssertionError("it was not heard in time")

    def hear_all(self, seconds: float) -> list[Message]:
        """Everything heard in so many seconds."""
        assert self.bus
        clock = SystemClock()
        end_s = clock.monotonic_s() + seconds
        heard = list(self._heard)
        self._heard.clear()
        while (left_s := end_s - clock.monotonic_s()) > 0:
            self.bus.pollables()[0].poll(min(100, left_s * 1000))
            heard += self.bus.receive()
        return heard

    def wait_logged(self, module: str, event: str) -> dict[str, object]:
        """The first line with that event, as soon as the process has logged it."""
        clock = SystemClock()
        end_s = clock.monotonic_s() + LIMIT_S
        while clock.monotonic_s() < end_s:
            for line in self.log(module):
                if line["event"] == event:
                    return line
            clock.sleep(0.05)
        raise AssertionError(f"{module} never logged {event}")

    def close(self) -> None:
        """End every process, the last one first."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(10)
        if self.bus:
            self.bus.close()
        for log in self._logs:
            log.close()


@contextmanager
def suite(folder: Path) -> Iterator[Suite]:
    running = Suite(folder)
    try:
        yield running
    finally:
        running.close()
