"""The ledger writer on a real bus with a real journal: each observation once, whoever is killed when."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from support.bench import Bench, bench
from support.ledgers import NOW_TS, Given, message
from support.suite import PROXY, Suite, suite

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.pub import ChemPub
from kloros.cli.running.suite import Member
from kloros.config import load, read_toml
from kloros.consumers.ledger.check import Report, verify
from kloros.consumers.ledger.keys import read_key
from kloros.consumers.ledger.recorder import LedgerSettings, LimitSettings
from kloros.consumers.ledger.rows import Entry, Row, Signed, observation_signature
from kloros.consumers.ledger_writer_daemon import LedgerWriterDaemon
from kloros.daemon.batch import Batch
from kloros.daemon.suite_settings import BusSettings, SuiteSettings
from kloros.errors import StoreUnusable
from kloros.orchestration import chem_proxy_daemon
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.place import Place
from kloros.storage.ledger_store import LedgerStore, read_only

import msgspec  # isort: skip

WaitFor = Callable[..., None]
WRITER = "kloros.consumers.ledger_writer_daemon"
ANY_PORTS = Endpoints("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")


class Ledger:
    """The ledger of a suite, read as `kloros ledger` reads it."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "ledger_writer"
        self.path = self.folder / "state.db"

    def entries(self) -> list[Entry]:
        try:
            with read_only(self.path) as reader:
                return [msgspec.json.decode(row[4], type=Entry) for row in reader.rows()]
        except StoreUnusable:
            return []

    def numbers(self) -> Counter[Any]:
        """How often each observation of `observe` is in it."""
        return Counter(entry.facts["extras"]["n"] for entry in self.entries())

    def verify(self) -> Report:
        with read_only(self.path) as reader:
            head = reader.head()
            segments = [(number, Signed(*signed)) for number, signed in reader.segments()]
            rows = [Row(*row) for row in reader.rows()]
        return verify(read_key(self.folder / "ledger.key"), Signed(*head) if head else None, segments, rows)


def observe(pub: ChemPub, number: int, **facts: Any) -> None:
    told = {"ts": time.time(), "zooid": "zähler", "ok": True, "extras": {"n": number, "wo": "Köln 🌍"}, **facts}
    pub.emit("OBSERVATION", ecosystem="observability", facts=told)


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Suite]:
    with suite(runtime_dir) as processes:
        yield processes


@pytest.fixture
def pub(running: Suite) -> Iterator[ChemPub]:
    running.start(PROXY)
    running.join()
    with ChemPub(Endpoints.for_runtime_dir(running.folder / "runtime"), zooid_name="zähler") as opened:
        yield opened


@pytest.fixture
def book(running: Suite) -> Ledger:
    return Ledger(running.folder / "state")


def test_what_is_observed_and_done_is_in_the_ledger(
    running: Suite, pub: ChemPub, book: Ledger, wait_for: WaitFor
) -> None:
    observe(pub, 0)  # before there ever was a ledger writer
    running.start(WRITER)
    observe(pub, 1)
    pub.emit("Q_ACTION_COMPLETE", ecosystem="queue_management", facts={"action_id": "a", "action_type": "restart"})
    pub.emit("CAPABILITY_GAP", ecosystem="x", facts={"gap_id": "g", "gap_type": "t", "gap_name": "not for the ledger"})
    wait_for(lambda: len(book.entries()) >= 3, 20.0)
    assert [entry.signal for entry in book.entries()] == ["OBSERVATION", "OBSERVATION", "Q_ACTION_COMPLETE"]
    assert book.verify().ok  # while it is being written
    assert (book.folder / "ledger.key").stat().st_mode & 0o777 == 0o600


def test_what_is_not_acceptable_is_kept_aside(running: Suite, pub: ChemPub, book: Ledger, wait_for: WaitFor) -> None:
    running.start(WRITER)
    observe(pub, 1, ts=time.time() + 3600)
    observe(pub, 2, sig="0" * 64)
    wait_for((book.folder / "observation.key").exists, 20.0)
    signed = {"ts": time.time(), "zooid": "zähler", "ok": True, "extras": {"n": 3, "wo": "Köln"}}
    observe(pub, 3, **signed, sig=observation_signature(read_key(book.folder / "observation.key"), signed))
    wait_for(lambda: book.numbers() == {3: 1}, 20.0)
    with read_only(book.path) as reader:
        assert [each[2] for each in reader.rejected(10)] == ["ts_ahead", "bad_signature"]


DYING = """
import os, pathlib, signal, sys
from kloros.consumers.ledger_writer_daemon import LedgerWriterDaemon
from kloros.daemon.runner import main

class Dying(LedgerWriterDaemon):
    def work(self, batch):
        super().work(batch)
        mark = pathlib.Path("died")
        if not mark.exists() and batch.processed > 3:
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    sys.exit(main(Dying))
"""


def test_killed_between_writing_and_committing(running: Suite, pub: ChemPub, book: Ledger, wait_for: WaitFor) -> None:
    (running.folder / "dying_writer.py").write_text(DYING)
    for number in range(50):
        observe(pub, number)
    first = running.start("dying_writer")
    assert first.wait(20.0) == -signal.SIGKILL
    assert len(book.numbers()) < 50
    running.start(WRITER)
    wait_for(lambda: len(book.numbers()) == 50, 20.0)
    assert set(book.numbers().values()) == {1}
    assert book.verify().ok
    assert sum(json.loads(body)["observations"] for body in _figures(book)) == 50


def _figures(book: Ledger) -> list[bytes]:
    with read_only(book.path) as reader:
        return reader.figures()


def test_killed_at_any_moment_each_observation_is_there_once(
    running: Suite, pub: ChemPub, book: Ledger, wait_for: WaitFor
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    number = 0
    writer: subprocess.Popen[bytes] | None = None
    for _ in range(12):
        writer = running.start(WRITER)
        end_s = time.monotonic() + chance.uniform(0.3, 1.5)
        while time.monotonic() < end_s:
            observe(pub, number, ok=number % 3 > 0)
            number += 1
        writer.kill()
        writer.wait()
    running.start(WRITER)
    wait_for(lambda: len(book.numbers()) == number, 30.0, f"{number} observations (seed {seed})")
    assert set(book.numbers().values()) == {1}
    assert [entry.facts["extras"]["n"] for entry in book.entries()] == list(range(number))
    assert book.verify().ok
    assert sum(json.loads(body)["observations"] for body in _figures(book)) == number


def test_all_given_again_is_not_written_again(running: Suite, pub: ChemPub, book: Ledger, wait_for: WaitFor) -> None:
    """The place in the journal is lost, as when the journal had to be built anew: everything comes a second time."""
    writer = running.start(WRITER)
    for number in range(20):
        observe(pub, number)
    wait_for(lambda: len(book.numbers()) == 20, 20.0)
    writer.terminate()
    assert writer.wait(20.0) == 0
    connection = sqlite3.connect(book.path)
    assert connection.execute("DELETE FROM cursors").rowcount == 1
    connection.commit()
    connection.close()
    running.start(WRITER)
    observe(pub, 20)
    wait_for(lambda: 20 in book.numbers(), 20.0)
    assert book.numbers() == dict.fromkeys(range(21), 1)
    assert book.verify().ok
    assert sum(json.loads(body)["observations"] for body in _figures(book)) == 21


def test_a_broken_ledger_is_not_written_on(running: Suite, pub: ChemPub, book: Ledger, wait_for: WaitFor) -> None:
    writer = running.start(WRITER)
    for number in range(5):
        observe(pub, number)
    wait_for(lambda: len(book.numbers()) == 5, 20.0)
    connection = sqlite3.connect(book.path)
    connection.execute("DELETE FROM ledger_rows WHERE seq = 5")
    connection.commit()
    connection.close()
    observe(pub, 5)
    assert writer.wait(20.0) == 4
    assert running.start(WRITER).wait(20.0) == 4
    assert [(fault.kind, fault.row) for fault in book.verify().faults] == [("missing", 5)]
    assert any(line["event"] == "ledger_broken" for line in running.log(WRITER))
    for path in book.folder.glob("state.db*"):
        path.unlink()
    running.start(WRITER)  # a new ledger, from what the journal still has
    wait_for(lambda: book.numbers() == dict.fromkeys(range(6), 1), 20.0)


def test_an_old_ledger_gets_no_new_key(running: Suite, pub: ChemPub, book: Ledger, wait_for: WaitFor) -> None:
    writer = running.start(WRITER)
    observe(pub, 1)
    wait_for(lambda: len(book.entries()) == 1, 20.0)
    writer.terminate()
    assert writer.wait(20.0) == 0
    (book.folder / "ledger.key").rename(book.folder / "mislaid.key")
    assert running.start(WRITER).wait(20.0) == 2
    assert "put it back" in (running.folder / f"{WRITER}.log").read_text()
    (book.folder / "mislaid.key").rename(book.folder / "ledger.key")
    (book.folder / "ledger.key").chmod(0o644)
    assert running.start(WRITER).wait(20.0) == 2


class TestBeats:
    """On a bench: what the daemon does on its beat, without a journal to read from."""

    @pytest.fixture
    def table(self, tmp_path: Path) -> Iterator[Bench[LedgerWriterDaemon]]:
        with bench(LedgerWriterDaemon, tmp_path) as bench_table:
            yield bench_table

    @staticmethod
    def write(table: Bench[LedgerWriterDaemon], *given: Given) -> None:
        table.clock.step_wall(NOW_TS - table.clock.wall_us() / 1e6)
        daemon, store = table.daemon, table.daemon.store
        messages, bodies = zip(*given, strict=True)
        with store.exact({}) as database:
            daemon.work(Batch(messages, bodies, database, store, daemon.log))

    def test_a_full_segment_is_sealed_by_the_settings_in_force(self, table: Bench[LedgerWriterDaemon]) -> None:
        self.write(table, message(1), message(2), message(3))
        table.say("Q_TRIGGER_LEDGER_FLUSH")
        assert len(LedgerStore(table.daemon.store.database).segments()) == 1
        config = table.daemon.place.config
        config.mkdir()
        (config / "ledger_writer_config.toml").write_text("[limits]\nsegment_rows = 2\n")
        table.daemon.reload()
        table.say("Q_TRIGGER_LEDGER_FLUSH")
        assert len(LedgerStore(table.daemon.store.database).segments()) == 2
        assert table.daemon.status().endswith("row 3")

    def test_settings_that_are_wrong_change_nothing(self, table: Bench[LedgerWriterDaemon]) -> None:
        config = table.daemon.place.config
        config.mkdir()
        (config / "ledger_writer_config.toml").write_text("[limits]\nsegment_rows = 0\n")
        table.daemon.reload()
        self.write(table, message(1))
        table.say("Q_TRIGGER_LEDGER_FLUSH")
        assert table.heard("Q_CYCLE_REPORT")[-1].facts.outcome == "ok"
        assert len(LedgerStore(table.daemon.store.database).segments()) == 1

    def test_what_is_unknown_rejected_or_known_already_is_counted(self, table: Bench[LedgerWriterDaemon]) -> None:
        self.write(table, message(1), message(1), message(2))
        self.write(table, message(2))
        self.write(table, message(3, ts=NOW_TS + 999))
        counters = table.daemon.counters
        assert (counters["unknown_zooid"], counters["duplicates"], counters["rejected_ts_ahead"]) == (2, 2, 1)

    def test_a_broken_ledger_stops_it_on_its_beat_too(self, table: Bench[LedgerWriterDaemon]) -> None:
        self.write(table, message(1), message(2))
        table.daemon.store.database.execute("DELETE FROM ledger_rows WHERE seq = 2")
        table.say("Q_TRIGGER_LEDGER_FLUSH")
        assert table.heard("Q_CYCLE_REPORT")[-1].facts.outcome == "failed"
        assert table.daemon.exit_code == 4


def test_the_settings_file_says_the_defaults() -> None:
    path = Path(__file__).parents[2] / "config/ledger_writer_config.toml"
    assert load(path, LedgerSettings) == LedgerSettings()
    assert set(read_toml(path)["limits"]) == set(LimitSettings.__struct_fields__)


class TestOldClients:
    """An existing client, played by bare pyzmq over TCP: no id, no pub, no seq."""

    @pytest.fixture
    def members(self, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, wait_for: WaitFor) -> Iterator[list[Member]]:
        monkeypatch.setattr(chem_proxy_daemon, "compat_endpoints", lambda: (ANY_PORTS,))
        place = Place(runtime_dir / "config", runtime_dir / "state", runtime_dir / "run")
        settings = SuiteSettings(bus=BusSettings(compat_tcp=True))
        started: list[Member] = []
        try:
            for daemon in (ChemProxyDaemon, LedgerWriterDaemon):
                started.append(Member(daemon, place, settings))
                started[-1].start()
                wait_for(lambda: started[-1].is_joined or started[-1].error, 20.0)
                assert started[-1].error is None
            yield started
        finally:
            for member in reversed(started):
                member.stop()
                assert member.join(10.0)

    @staticmethod
    def bare_observation(number: int) -> bytes:
        facts = {"ts": time.time(), "zooid": "alter_zähler", "ok": True, "ttr_ms": 12, "extras": {"n": number}}
        envelope = {"signal": "OBSERVATION", "ecosystem": "observability", "intensity": 1.0, "facts": facts}
        envelope |= {"incident_id": "i-1", "trace": None, "ts": time.time(), "schema_version": 1}
        return json.dumps(envelope, separators=(",", ":"), ensure_ascii=False).encode()

    def test_each_observation_enters_once(self, members: list[Member], runtime_dir: Path, wait_for: WaitFor) -> None:
        proxy = members[0].daemon
        assert isinstance(proxy, ChemProxyDaemon)
        endpoint = next(each for each in proxy._forwarder.endpoints if each.startswith("tcp://"))
        book = Ledger(runtime_dir / "state")
        with zmq.Context() as context, context.socket(zmq.PUB) as client:
            client.connect(endpoint)

            def knock() -> bool:  # an old client cannot know whether it is connected: it repeats
                client.send_multipart([b"OBSERVATION", self.bare_observation(-1)])
                return bool(book.entries())

            wait_for(knock, 20.0)
            for number in range(200):
                client.send_multipart([b"OBSERVATION", self.bare_observation(number)])
            twice = self.bare_observation(200)  # as existing clients do with their first message
            client.send_multipart([b"OBSERVATION", twice])
            client.send_multipart([b"OBSERVATION", twice])
            client.send_multipart([b"OBSERVATION", self.bare_observation(201)])
            wait_for(lambda: book.numbers()[201] == 1, 20.0)
        numbers = book.numbers()
        assert all(numbers[number] == 1 for number in range(202))
        assert {entry.zooid for entry in book.entries()} == {"alter_zähler"}
        assert book.verify().ok
