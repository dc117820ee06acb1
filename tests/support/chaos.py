"""Producers, a proxy and consumers to be killed: forked by one process that has imported everything, so that a new life
takes milliseconds. What each has promised is on disk, where `Colony.verdict` counts it.

Producers spool numbered flags, shouters emit them and wait for the acknowledgement; `eater` writes each flag down and
passes on a gap for it, `echo` writes down the gaps. Nothing has a UNIQUE constraint that would hide a repetition.
"""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from kloros.chembus.pub import ChemPub
from kloros.clock import SystemClock
from kloros.daemon.batch import Batch
from kloros.daemon.cycle import Outgoing
from kloros.daemon.daemon import Daemon
from kloros.daemon.runner import main
from kloros.errors import KlorosError, StoreUnusable
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.place import Place
from kloros.storage.database import Tables

PRODUCE_EVERY_S = 0.005
QUIET = "quiet"  # while a file of this name is in the runtime directory, nothing new is produced


def _is_quiet() -> bool:
    return (Place.discover().runtime / QUIET).exists()


def _flag(key: str) -> dict[str, object]:
    return {"flag_id": key, "module_name": "chaos", "rationale": "x" * 100}


class Producer(Daemon):
    """Writes down what it promises in the transaction that spools it."""

    zooid: ClassVar[str] = "producer"
    niche: ClassVar[str] = "chaos"
    tables: ClassVar[Tables] = {"producer": ("CREATE TABLE promised (key TEXT)",)}

    def on_start(self) -> None:
        self._life, self._n = secrets.token_hex(4), 0
        self.loop.every("produce", PRODUCE_EVERY_S, self._produce)

    def _produce(self) -> None:
        if _is_quiet():
            return
        self._n += 1
        key = f"{self.zooid}.{self._life}.{self._n}"
        outbox = self.durables.outbox
        try:
            entries = outbox.encode([Outgoing("FLAG_FOR_REVIEW", _flag(key), 1.0, None)])
            with self.store.exact({}) as database:
                database.execute("INSERT INTO promised VALUES (?)", (key,))
                outbox.write(database, entries)
            outbox.written(entries)
        except StoreUnusable:
            outbox.discard()
            self.count("not_promised")


class Producer2(Producer):
    """Another one."""

    zooid: ClassVar[str] = "producer2"


class Eater(Daemon):
    """Writes down each flag and passes on a gap for it."""

    zooid: ClassVar[str] = "eater"
    niche: ClassVar[str] = "chaos"
    consumes: ClassVar[tuple[str, ...]] = ("FLAG_FOR_REVIEW",)
    tables: ClassVar[Tables] = {"eater": ("CREATE TABLE effects (offset INTEGER, key TEXT)",)}

    def work(self, batch: Batch) -> None:
        for message in batch.messages:
            key = message.facts.flag_id
            batch.database.execute("INSERT INTO effects VALUES (?, ?)", (message.offset, key))
            batch.emit("CAPABILITY_GAP", {"gap_id": key, "gap_type": "unit", "gap_name": key, "severity": "high"})


class Echo(Daemon):
    """Writes down each gap."""

    zooid: ClassVar[str] = "echo"
    niche: ClassVar[str] = "chaos"
    consumes: ClassVar[tuple[str, ...]] = ("CAPABILITY_*",)
    tables: ClassVar[Tables] = {"echo": ("CREATE TABLE effects (offset INTEGER, key TEXT)",)}

    def work(self, batch: Batch) -> None:
        for message in batch.messages:
            batch.database.execute("INSERT INTO effects VALUES (?, ?)", (message.offset, message.facts.gap_id))


def shouter() -> int:
    """A plain program: a line for every emit that returned."""
    life, clock, n = secrets.token_hex(4), SystemClock(), 0
    promised = os.open(Place.discover().runtime / "shouted", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with ChemPub(zooid_name="shouter") as pub:
        while True:
            if _is_quiet():
                clock.sleep(0.05)
                continue
            n += 1
            key = f"shouter.{life}.{n}"
            try:
                pub.emit("FLAG_FOR_REVIEW", facts=_flag(key))
            except KlorosError:
                continue
            os.write(promised, f"{key}\n".encode())
            clock.sleep(PRODUCE_EVERY_S)


def _daemon(daemon_class: type[Daemon]) -> Callable[[], int]:
    return lambda: main(daemon_class)


CAST: dict[str, Callable[[], int]] = {
    "chem_proxy": _daemon(ChemProxyDaemon),
    "producer": _daemon(Producer),
    "producer2": _daemon(Producer2),
    "eater": _daemon(Eater),
    "echo": _daemon(Echo),
    "shouter": shouter,
}


def forker() -> None:
    """Obey lines `VERB NAME` on stdin, one line of answer each: start, kill, stop, cont, term, alive."""
    lives: dict[str, int] = {}
    for line in sys.stdin:
        verb, name = line.split()
        if verb == "start":
            lives[name] = _fork(name)
        elif verb == "alive":
            if name in lives and os.waitpid(lives[name], os.WNOHANG)[0]:
                del lives[name]
        elif name in lives:
            os.kill(lives[name], getattr(signal, f"SIG{verb.upper()}"))
            if verb in ("kill", "term"):
                os.waitpid(lives.pop(name), 0)
        print("yes" if name in lives else "no", flush=True)
    for pid in lives.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _fork(name: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.open(Path(os.environ["CHAOS_LOGS"]) / f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = CAST[name]()
    except BaseException:  # noqa: BLE001 - it must not return into the forker
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
    return 0


@dataclass
class Verdict:
    """What was promised, and what came of it."""

    promised: int = 0
    effects: int = 0
    echoed: int = 0
    missing: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    wrong_echoes: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.repeated or self.wrong_echoes)


class Colony:
    """The cast under one roof."""

    def __init__(self, folder: Path, state: Path | None = None) -> None:
        self.folder, self.state = folder, state or folder / "state"
        for name in ("config", "runtime", "logs"):
            (folder / name).mkdir()
        (folder / "config" / "kloros.toml").write_text("[metrics]\nenabled = false\n[logs]\nlevel = 'warning'\n")
        environment = {
            **os.environ,
            "KLOROS_CONFIG_DIR": str(folder / "config"),
            "KLOROS_STATE_DIR": str(self.state),
            "KLOROS_RUNTIME_DIR": str(folder / "runtime"),
            "CHAOS_LOGS": str(folder / "logs"),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        self._forker = subprocess.Popen(
            [sys.executable, "-c", "from support.chaos import forker; forker()"],
            env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def tell(self, verb: str, name: str) -> bool:
        """Have it done; whether that one is alive afterwards."""
        assert self._forker.stdin
        assert self._forker.stdout
        self._forker.stdin.write(f"{verb} {name}\n")
        self._forker.stdin.flush()
        return self._forker.stdout.readline() == "yes\n"

    def revive(self) -> None:
        """Start whoever is not alive, as systemd would."""
        for name in CAST:
            if not self.tell("alive", name):
                self.tell("start", name)

    def quiet(self) -> None:
        """Let nothing new be produced."""
        (self.folder / "runtime" / QUIET).touch()

    def is_settled(self) -> bool:
        """Whether every outbox is empty and every consumer at the end."""
        try:
            return self._is_settled()
        except sqlite3.OperationalError:  # somebody has only begun to mend what a full disk has broken
            return False

    def _is_settled(self) -> bool:
        waiting = sum(self.count(name, "SELECT count(*) FROM outbox") for name in ("producer", "producer2", "eater"))
        flags, gaps = (
            self.count("eater", "SELECT count(*) FROM effects"),
            self.count("echo", "SELECT count(*) FROM effects"),
        )
        end = self.count("chem_proxy/journal.db", "SELECT max(offset) FROM messages")
        return waiting == 0 and flags == gaps and flags + gaps == end

    def verdict(self) -> Verdict:
        """Count what was promised and what came of it."""
        shouted = self.folder / "runtime" / "shouted"
        promised = set(shouted.read_text().splitlines()) if shouted.exists() else set()
        for name in ("producer", "producer2"):
            promised |= set(self.column(name, "SELECT key FROM promised"))
        effects = Counter(self.column("eater", "SELECT key FROM effects"))
        echoes = Counter(self.column("echo", "SELECT key FROM effects"))
        return Verdict(
            len(promised), effects.total(), echoes.total(),
            missing=sorted(promised - effects.keys()),
            repeated=sorted(key for key, count in effects.items() if count != 1),
            wrong_echoes=sorted(key for key in effects.keys() | echoes.keys() if echoes[key] != 1 or effects[key] != 1),
        )  # fmt: skip

    def column(self, name: str, sql: str) -> list[str]:
        """The first column of a query of that one's database."""
        path = self.state / (name if name.endswith(".db") else f"{name}/state.db")
        if not path.exists():
            return []
        connection = sqlite3.connect(path, timeout=10)
        try:
            return [row[0] for row in connection.execute(sql)]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def count(self, name: str, sql: str) -> int:
        """The one figure of a query."""
        return int((self.column(name, sql) or [0])[0] or 0)

    def close(self) -> None:
        """End everybody."""
        for name in CAST:
            self.tell("cont", name)
            self.tell("kill", name)
        assert self._forker.stdin
        assert self._forker.stdout
        self._forker.stdin.close()
        self._forker.wait(10)
        self._forker.stdout.close()
