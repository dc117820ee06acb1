"""The processes of durable.py. Each prints `ready`, then `result` and JSON."""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from kloros.chembus.declaration import Delivery, Signal
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.journal.client import JournalClient
from kloros.chembus.journal.contract import Appended, Entry, NotKept, Page
from kloros.chembus.pub import ChemPub
from kloros.chembus.vocabulary import suite_vocabulary
from kloros.clock import SystemClock
from kloros.daemon.intake import _decoded, _Job
from kloros.storage.journal_store import JournalStore

FACTS = {"flag_id": "flag", "module_name": "benchmark", "rationale": "r" * 100}
BODY = (
    b'{"signal":"FLAG_FOR_REVIEW","ecosystem":"governance","intensity":1.0,"facts":{"flag_id":"flag","module_name":'
    b'"benchmark","rationale":"' + b"r" * 100 + b'"},"incident_id":null,"trace":null,"ts":1792000000.5,'
    b'"schema_version":1,"channel":"legacy","id":"12345678.1234567.89abcdef.12345","pub":"x@1.2.3","seq":12345}'
)


def in_threads(emitters: int, seconds: float, make: Callable[[], Callable[[], object]]) -> tuple[int, float]:
    """Emit from so many threads for so long; how many emits returned, and in what time."""
    counts, begin, end = [0] * emitters, threading.Barrier(emitters + 1), threading.Event()

    def emit(index: int) -> None:
        one = make()
        one()
        begin.wait(30.0)
        while not end.is_set():
            one()
            counts[index] += 1

    threads = [threading.Thread(target=emit, args=(index,), daemon=True) for index in range(emitters)]
    for thread in threads:
        thread.start()
    begin.wait(30.0)
    start_s = time.perf_counter()
    time.sleep(seconds)
    end.set()
    for thread in threads:
        thread.join()
    return sum(counts), time.perf_counter() - start_s


def chem_pubs(given: argparse.Namespace) -> tuple[int, float]:
    """Each emitter a ChemPub of its own."""
    vocabulary = suite_vocabulary()
    shape = vocabulary.lookup("FLAG_FOR_REVIEW").facts
    vocabulary.declare(
        Signal(
            name="BENCHMARK_FLAG", facts=shape, ecosystem="b", summary="B.", delivery=Delivery.DURABLE, rate_per_s=None
        )
    )
    pubs: list[ChemPub] = []

    def make() -> Callable[[], object]:
        pub = ChemPub(Endpoints.for_runtime_dir(given.runtime), vocabulary=vocabulary)
        pubs.append(pub)
        return lambda: pub.emit("BENCHMARK_FLAG", facts=FACTS)

    result = in_threads(given.emitters, given.seconds, make)
    for pub in pubs:
        pub.close()
    return result


class GroupCommit:
    """Threads hand in a row and wait; one thread commits what has gathered."""

    def __init__(self, path: Path) -> None:
        self._waiting: list[tuple[bytes, threading.Event]] = []
        self._has_some = threading.Condition()
        self._path = path
        threading.Thread(target=self._commit, daemon=True).start()

    def emit(self, body: bytes) -> None:
        done = threading.Event()
        with self._has_some:
            self._waiting.append((body, done))
            self._has_some.notify()
        done.wait()

    def _commit(self) -> None:
        connection = open_bare(self._path)
        while True:
            with self._has_some:
                while not self._waiting:
                    self._has_some.wait()
                group, self._waiting = self._waiting, []
            insert(connection, [body for body, _ in group])
            for _, done in group:
                done.set()


def open_bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS messages (offset INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB)")
    return connection


def insert(connection: sqlite3.Connection, bodies: list[bytes]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO messages (body) VALUES (?)", ((body,) for body in bodies))
    connection.execute("COMMIT")


def group_commit(given: argparse.Namespace) -> tuple[int, float]:
    """Emitters are threads that wait for the committing one: no processes, no sockets, nothing checked."""
    committer = GroupCommit(given.runtime / "group.db")
    return in_threads(given.emitters, given.seconds, lambda: lambda: committer.emit(BODY))


def bare_loop(given: argparse.Namespace) -> tuple[int, float]:
    """Nobody waits: one thread inserts as many rows per commit as there would be emitters."""
    connection = open_bare(given.runtime / "bare.db")
    bodies, count, start_s = [BODY] * given.emitters, 0, time.perf_counter()
    while time.perf_counter() - start_s < given.seconds:
        insert(connection, bodies)
        count += given.emitters
    return count, time.perf_counter() - start_s


def outbox(given: argparse.Namespace) -> tuple[int, float]:
    """As a daemon's outbox sends: appends of up to 500 entries, one after the other."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = client_of(context, given.runtime)
    answers: list[Appended | NotKept] = []
    count, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < given.seconds:
        answers.clear()
        entries = [Entry(f"benchmark.{count + n}", "FLAG_FOR_REVIEW", BODY) for n in range(500)]
        client.append(entries, answers.append)
        client.wait(lambda: bool(answers), 10.0)
        count += 500
    span_s = time.perf_counter() - start_s
    client.close()
    context.term()
    return count, span_s


def client_of(context: zmq.Context[zmq.Socket[bytes]], runtime: Path) -> JournalClient:
    endpoint = Endpoints.for_runtime_dir(runtime).journal
    assert endpoint
    return JournalClient(context, endpoint, SystemClock())


def fill(path: Path, count: int) -> None:
    """A journal with so many entries, without asking anybody."""
    store = JournalStore(path)
    for start in range(0, count, 10_000):
        rows = [(f"fill.{n}", "FLAG_FOR_REVIEW", BODY) for n in range(start, min(count, start + 10_000))]
        store.append(rows, time.time_ns() // 1000)
    store.close()


def catch_up(given: argparse.Namespace) -> tuple[int, float]:
    """Fetch everything from the beginning as a consumer does, decoded; one page is on its way while one is read."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = client_of(context, given.runtime)
    pages: list[Page] = []
    client.fetch("reader", ["*"], "", 0, 1, pages.append)
    client.wait(lambda: bool(pages), 10.0)
    journal, after, count, start_s = pages.pop().journal, 0, 0, time.perf_counter()
    while True:
        client.fetch("reader", ["*"], journal, after, given.page, pages.append)
        client.wait(lambda: bool(pages), 10.0)
        page = pages.pop()
        messages, _ = _decoded(_Job(page.rows, page.next_after))
        count, after = count + len(messages), page.next_after
        if after >= page.end:
            break
    span_s = time.perf_counter() - start_s
    client.close()
    context.term()
    return count, span_s


ROLES = {
    "chem_pubs": chem_pubs, "group_commit": group_commit, "bare_loop": bare_loop, "outbox": outbox,
    "catch_up": catch_up,
}  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=[*ROLES, "fill"])
    parser.add_argument("runtime", type=Path)
    parser.add_argument("--emitters", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--page", type=int, default=500)
    given = parser.parse_args()
    if given.role == "fill":
        fill(given.runtime, given.count)
    else:
        done, took_s = ROLES[given.role](given)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print("result", json.dumps([done, took_s, peak_mib]), flush=True)
