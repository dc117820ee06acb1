"""Any consumer as a process that dies at a chosen point of its work, and counts in its own transactions what it did.

A probe writes one row for each signal that was worked off, and each cycle that was done, and emits one signal for it:
in the transaction of the consumer's own effects. Nothing has a UNIQUE constraint that would hide a repetition.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections import Counter
from pathlib import Path
from types import new_class
from typing import Any

import msgspec

from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.runner import main, stem_of
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.place import Place
from support.consumer_examples import consumers

PROXY = "chem_proxy"
ECHO = "FLAG_CLOSED"
ECHO_REASON = "told by the probe"
_PROBE = ("CREATE TABLE probe_work (offset INTEGER, signal TEXT); CREATE TABLE probe_cycles (n INTEGER)",)


def _at(point: str) -> None:
    """Die here, if that is what the fuse says."""
    fuse = Place.discover().runtime / "fuse"
    if fuse.exists() and fuse.read_text() == point:
        fuse.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def probed(consumer: type[Consumer]) -> type[Consumer]:
    """That consumer, with a probe."""

    def work(self: Any, batch: Batch) -> None:
        _at("work begun")
        consumer.work(self, batch)
        for message in batch.messages:
            batch.database.execute("INSERT INTO probe_work VALUES (?, ?)", (message.offset, message.signal))
            if message.signal != ECHO or message.facts.reason != ECHO_REASON:
                echo = {"flag_id": f"{self.zooid} work {message.offset}", "reason": ECHO_REASON}
                batch.emit(ECHO, echo)
        _at("work done")

    def cycle(self: Any, cycle: Cycle) -> None:
        _at("cycle begun")
        consumer.cycle(self, cycle)
        number = (cycle.load("probe", int) or 0) + 1
        cycle.save("probe", number)
        cycle.execute("INSERT INTO probe_cycles VALUES (?)", (number,))
        cycle.emit(ECHO, {"flag_id": f"{self.zooid} cycle {number}", "reason": ECHO_REASON})
        _at("cycle done")

    body = {"work": work, "cycle": cycle, "tables": {**consumer.tables, "probe": _PROBE}}
    return new_class(f"Probed{consumer.__name__}", (consumer,), exec_body=lambda names: names.update(body))


def forker() -> None:
    """Obey lines `VERB NAME` on stdin, one line of answer each: start, kill, alive."""
    cast = {stem_of(each): probed(each) for each in consumers()} | {PROXY: ChemProxyDaemon}
    lives: dict[str, int] = {}
    for line in sys.stdin:
        verb, name = line.split()
        if verb == "start":
            lives[name] = _fork(name, cast[name])
        elif verb == "alive":
            if name in lives and os.waitpid(lives[name], os.WNOHANG)[0]:
                del lives[name]
        elif name in lives:
            os.kill(lives[name], signal.SIGKILL)
            os.waitpid(lives.pop(name), 0)
        print("yes" if name in lives else "no", flush=True)
    for pid in lives.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _fork(name: str, daemon_class: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.open(Path(os.environ["KILLING_LOGS"]) / f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = main(daemon_class)
    except BaseException:  # noqa: BLE001 - it must not return into the forker
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
    return 0


class Stage:
    """A proxy and one consumer that dies."""

    def __init__(self, folder: Path, consumer: type[Consumer]) -> None:
        self.folder, self.consumer, self.stem = folder, consumer, stem_of(consumer)
        for name in ("config", "runtime", "logs"):
            (folder / name).mkdir()
        (folder / "config" / "kloros.toml").write_text("[metrics]\nenabled = false\n[logs]\nlevel = 'warning'\n")
        environment = {
            **os.environ,
            "KLOROS_CONFIG_DIR": str(folder / "config"),
            "KLOROS_STATE_DIR": str(folder / "state"),
            "KLOROS_RUNTIME_DIR": str(folder / "runtime"),
            "KILLING_LOGS": str(folder / "logs"),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        self._forker = subprocess.Popen(
            [sys.executable, "-c", "from support.killing import forker; forker()"],
            env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.tell("start", PROXY)

    def tell(self, verb: str, name: str | None = None) -> bool:
        """Have it done; whether that one is alive afterwards."""
        assert self._forker.stdin
        assert self._forker.stdout
        self._forker.stdin.write(f"{verb} {name or self.stem}\n")
        self._forker.stdin.flush()
        return self._forker.stdout.readline() == "yes\n"

    def lay_fuse(self, point: str) -> None:
        """The consumer dies when it gets there."""
        (self.folder / "runtime" / "fuse").write_text(point)

    def done(self) -> Counter[Any]:
        """How often each offset was worked off, as the consumer has it on disk."""
        return Counter(offset for (offset,) in self._rows(self.stem, "SELECT offset FROM probe_work"))

    def cycles(self) -> list[int]:
        """The cycles that were done."""
        return [number for (number,) in self._rows(self.stem, "SELECT n FROM probe_cycles")]

    def journal(self) -> list[tuple[int, str, Any]]:
        """Offset, signal and message of everything durable."""
        rows = self._rows("chem_proxy/journal.db", "SELECT offset, signal, body FROM messages ORDER BY offset")
        return [(offset, name, msgspec.json.decode(body)) for offset, name, body in rows]

    def is_settled(self) -> bool:
        """Whether the consumer has nothing left to send."""
        return self._rows(self.stem, "SELECT count(*) FROM outbox") == [(0,)]

    def log(self) -> str:
        """What the consumer has said."""
        path = self.folder / "logs" / f"{self.stem}.log"
        return path.read_text() if path.exists() else ""

    def _rows(self, name: str, sql: str) -> list[Any]:
        path = self.folder / "state" / (name if name.endswith(".db") else f"{name}/state.db")
        if not path.exists():
            return []
        connection = sqlite3.connect(path, timeout=10)
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def close(self) -> None:
        """End both."""
        for name in (self.stem, PROXY):
            self.tell("kill", name)
        assert self._forker.stdin
        assert self._forker.stdout
        self._forker.stdin.close()
        self._forker.wait(10)
        self._forker.stdout.close()
