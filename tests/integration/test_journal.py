"""Durable signals over real sockets: on disk when acknowledged, heard live with their offset, old clients included."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.journal import wire
from kloros.chembus.journal.client import JournalClient
from kloros.chembus.journal.contract import MAX_SIGNALS, Appended, Entry, NotKept, Page
from kloros.chembus.journal.memory import MemoryJournalStore
from kloros.chembus.journal.published import Published
from kloros.chembus.journal.server import JournalServer
from kloros.chembus.proxy import Forwarder
from kloros.chembus.pub import ChemPub
from kloros.chembus.zmq_bus import ZmqBus
from kloros.cli.app import call
from kloros.clock import SystemClock
from kloros.daemon.runner import composed
from kloros.daemon.suite_settings import BusSettings, MetricsSettings, SuiteSettings
from kloros.errors import EndpointRefused, NotJournaled
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.place import Place
from kloros.storage.journal_store import JournalStore

FLAG = {"flag_id": "1", "module_name": "m", "rationale": "r"}
BODY = (
    b'{"signal":"FLAG_FOR_REVIEW","ecosystem":"governance",'
    b'"facts":{"flag_id":"1","module_name":"m","rationale":"r"},"ts":1.0}'
)


@pytest.fixture
def journal(proxy: Forwarder, endpoints: Endpoints, tmp_path: Path) -> Iterator[JournalServer]:
    store = JournalStore(tmp_path / "journal.db")
    server = JournalServer(endpoints, store, SystemClock())
    yield server
    server.close()
    store.close()


@pytest.fixture
def asking(endpoints: Endpoints) -> Iterator[Callable[[], JournalClient]]:
    with ExitStack() as closing:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        closing.callback(context.term)

        def make() -> JournalClient:
            assert endpoints.journal
            client = JournalClient(context, endpoints.journal, SystemClock())
            closing.callback(client.close)
            return client

        yield make


def page_of(client: JournalClient, journal: str, after: int, limit: int = 100, signal: str = "*") -> Page:
    pages: list[Page] = []
    client.fetch("tester", [signal], journal, after, limit, pages.append)
    assert client.wait(lambda: bool(pages), 5.0)
    return pages[0]


def test_an_emit_returns_once_it_is_on_disk_and_live_subscribers_hear_it_with_its_offset(
    journal: JournalServer, endpoints: Endpoints, open_bus: Callable[..., ZmqBus], tmp_path: Path
) -> None:
    bus = open_bus(hears=("FLAG_FOR_REVIEW", "Q_JOURNAL_ADVANCED"))
    with ChemPub(endpoints) as pub:
        message_id = pub.emit("FLAG_FOR_REVIEW", facts=FLAG)
        other = JournalStore(tmp_path / "journal.db")
        assert other.bounds() == (0, 1)
        other.close()
    heard: list[Message] = []
    while len(heard) < 2:
        assert bus.pollables()[0].poll(5_000)
        heard += bus.receive()
    assert [(message.signal, message.offset) for message in heard] == [
        ("FLAG_FOR_REVIEW", 1),
        ("Q_JOURNAL_ADVANCED", None),
    ]
    assert heard[0].id == message_id
    assert (heard[1].facts.offset, heard[1].facts.signals) == (1, ["FLAG_FOR_REVIEW"])


def test_nobody_to_keep_it_is_an_error_that_says_so(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kloros.chembus.journal.blocking.BlockingJournal.__init__.__defaults__", (0.2,))
    with ChemPub(endpoints) as pub, pytest.raises(NotJournaled, match="kloros-chem-proxy"):
        pub.emit("FLAG_FOR_REVIEW", facts=FLAG)


def test_a_bus_of_one_process_waits_for_the_journal_too(
    journal: JournalServer, open_bus: Callable[..., ZmqBus]
) -> None:
    bus = open_bus()
    assert bus.emit("FLAG_FOR_REVIEW", FLAG)
    assert journal.counters["appended"] == 1
    assert "FLAG_FOR_REVIEW" not in bus.sent_seqs()


def test_many_emitters_share_commits(journal: JournalServer, endpoints: Endpoints) -> None:
    def emit() -> None:
        with ChemPub(endpoints) as pub:
            for _ in range(20):
                pub.emit("FLAG_FOR_REVIEW", facts=FLAG)

    threads = [threading.Thread(target=emit) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.counters["appended"] == 320
    assert journal.counters["commits"] < 320


def test_the_same_id_again_is_the_same_entry(journal: JournalServer, asking: Callable[[], JournalClient]) -> None:
    answers: list[Appended | NotKept] = []
    client = asking()
    for _ in range(2):
        client.append([Entry("a.1", "FLAG_FOR_REVIEW", BODY), Entry("a.2", "FLAG_FOR_REVIEW", BODY)], answers.append)
    assert client.wait(lambda: len(answers) == 2, 5.0)
    assert [answer.offsets for answer in answers if isinstance(answer, Appended)] == [[1, 2], [1, 2]]


def test_a_reader_finds_its_way_page_by_page(journal: JournalServer, asking: Callable[[], JournalClient]) -> None:
    client, done = asking(), list[Appended | NotKept]()
    client.append([Entry(f"a.{n}", "FLAG_FOR_REVIEW", BODY) for n in range(25)], done.append)
    assert client.wait(lambda: bool(done), 5.0)
    first = page_of(client, "", 0)
    assert (first.rows, first.end) == ([], 25)
    after, offsets = 0, []
    while after < 25:
        page = page_of(client, first.journal, after, limit=10)
        offsets += [row[0] for row in page.rows]
        after = page.next_after
    assert offsets == list(range(1, 26))
    client.committed("tester", ["*"], first.journal, 25)
    told = status(client)
    assert [(each["name"], each["behind"]) for each in told["consumers"]] == [("tester", 0)]


def status(client: JournalClient) -> dict[str, list[dict[str, object]]]:
    told: list[dict[str, list[dict[str, object]]]] = []
    client.status(lambda answer: told.append(answer.status))
    assert client.wait(lambda: bool(told), 5.0)
    return told[0]


@pytest.mark.parametrize(
    "entry",
    [
        Entry("", "FLAG_FOR_REVIEW", BODY),
        Entry("a" * 300, "FLAG_FOR_REVIEW", BODY),
        Entry("a.1", "", BODY),
        Entry("a.1", "F" * 1025, BODY),
        Entry("a.1", "FLAG_FOR_REVIEW", b"not json"),
        Entry("a.1", "FLAG_FOR_REVIEW", b"{" + b" " * (1 << 20) + b'"a":1}'),
    ],
)
def test_what_can_be_no_entry_is_refused_with_its_reason_and_alone(
    journal: JournalServer, asking: Callable[[], JournalClient], entry: Entry
) -> None:
    client, answers = asking(), list[Appended | NotKept]()
    page_of(client, "", 0)  # without a connection the second could overtake the first
    client.append([Entry("good.1", "FLAG_FOR_REVIEW", BODY), entry], answers.append)
    client.append([Entry("good.2", "FLAG_FOR_REVIEW", BODY)], answers.append)
    assert client.wait(lambda: len(answers) == 2, 5.0)
    assert isinstance(answers[0], NotKept)
    assert answers[0].reason == "bad"
    assert isinstance(answers[1], Appended)
    assert journal.counters["appended"] == 1


def test_garbage_is_counted_and_harms_nobody(
    journal: JournalServer, endpoints: Endpoints, asking: Callable[[], JournalClient]
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.DEALER) as socket:
        assert endpoints.journal
        socket.connect(endpoints.journal)
        for frames in ([b""], [b"A", b"\xc1"], [b"Z", b"\x90"], [b"A"], [b"A", b"\x92\x01\x90", b""], [b"\xff" * 1000]):
            socket.send_multipart(frames)
        client, answers = asking(), list[Appended | NotKept]()
        client.append([Entry("good.1", "FLAG_FOR_REVIEW", BODY)], answers.append)
        assert client.wait(lambda: bool(answers), 5.0)
        deadline_s = time.monotonic() + 5.0
        while journal.counters["refused_bad"] < 6 and time.monotonic() < deadline_s:
            time.sleep(0.01)
    context.term()
    assert journal.counters["refused_bad"] == 6
    assert journal.alive()


FETCH: dict[str, Any] = {"request": 1, "consumer": "tester", "signals": ["*"], "after": 0, "limit": 10}
BEYOND_BOUNDS: dict[str, Callable[[str], tuple[bytes, bytes]]] = {
    "a surplus element, nested deeply": lambda _: (wire.APPEND, b"\x93\x01\x90" + b"\x91" * 5_000 + b"\x01"),
    "a place that SQLite cannot hold": lambda journal: fetching(journal, after=2**63),
    "a place before the first": lambda journal: fetching(journal, after=-1),
    "too many prefixes": lambda journal: fetching(journal, signals=[f"S{number}*" for number in range(1_200)]),
    "too many signals": lambda journal: fetching(journal, signals=[f"S{number}" for number in range(260_000)]),
    "a name without end": lambda journal: fetching(journal, consumer="x" * 1_025),
    "a consumer that is too far": lambda journal: (
        wire.COMMITTED,
        wire.encode(wire.Committed("tester", ["*"], journal, 2**64 - 1)),
    ),
}


def fetching(journal: str, **changes: Any) -> tuple[bytes, bytes]:
    return wire.FETCH, wire.encode(wire.Fetch(**{**FETCH, **changes}, journal=journal))


@pytest.mark.parametrize("kind", BEYOND_BOUNDS)
def test_a_request_beyond_its_bounds_is_counted_and_the_next_one_answered(
    kind: str, journal: JournalServer, endpoints: Endpoints, asking: Callable[[], JournalClient]
) -> None:
    name = page_of(asking(), "", 0).journal
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.DEALER) as socket:
        assert endpoints.journal
        socket.set(zmq.LINGER, 0)
        socket.connect(endpoints.journal)
        for frames in (BEYOND_BOUNDS[kind](name), (wire.STATUS, wire.encode(wire.StatusAsked(7)))):
            socket.send_multipart(frames)
        assert socket.poll(5_000)  # what was asked after it, by the same peer
        assert wire.decode(*socket.recv_multipart()).request == 7
    context.term()
    assert journal.counters["refused_bad"] == 1
    assert journal.alive()


def test_as_many_signals_as_a_consumer_may_name_are_read(
    journal: JournalServer, asking: Callable[[], JournalClient]
) -> None:
    client, done, pages = asking(), list[Appended | NotKept](), list[Page]()
    client.append([Entry("a.1", "FLAG_FOR_REVIEW", BODY)], done.append)
    assert client.wait(lambda: bool(done), 5.0)
    name = page_of(client, "", 0).journal
    client.fetch("tester", [*(f"S{number}*" for number in range(MAX_SIGNALS - 1)), "FLAG_*"], name, 0, 9, pages.append)
    assert client.wait(lambda: bool(pages), 5.0)
    assert [row[0] for row in pages[0].rows] == [1]


def test_what_was_asked_before_there_was_a_journal_is_answered_when_there_is(
    proxy: Forwarder, endpoints: Endpoints, asking: Callable[[], JournalClient], tmp_path: Path
) -> None:
    client, answers = asking(), list[Appended | NotKept]()
    client.append([Entry("early.1", "FLAG_FOR_REVIEW", BODY)], answers.append)
    assert not client.wait(lambda: bool(answers), 0.3)
    store = JournalStore(tmp_path / "journal.db")
    server = JournalServer(endpoints, store, SystemClock())
    assert client.wait(lambda: bool(answers), 5.0)
    server.close()
    store.close()


def test_a_second_journal_is_refused(journal: JournalServer, endpoints: Endpoints, tmp_path: Path) -> None:
    with pytest.raises(EndpointRefused, match="already serves"):
        JournalServer(endpoints, JournalStore(tmp_path / "other.db"), SystemClock())


@pytest.fixture
def running_proxy(runtime_dir: Path, wait_for: Callable[..., None]) -> Iterator[ChemProxyDaemon]:
    suite = SuiteSettings(bus=BusSettings(compat_tcp=False), metrics=MetricsSettings(enabled=False))
    place = Place(runtime_dir / "config", runtime_dir / "state", runtime_dir)
    with composed(ChemProxyDaemon, place, suite) as daemon:
        assert isinstance(daemon, ChemProxyDaemon)
        thread = threading.Thread(target=daemon.run)
        thread.start()
        wait_for(lambda: daemon.bus.joined)
        yield daemon
        daemon.stop()
        thread.join()


def test_an_old_clients_signal_is_kept_once_with_every_byte_and_not_repeated_to_those_who_heard_it(
    running_proxy: ChemProxyDaemon, endpoints: Endpoints, open_bus: Callable[..., ZmqBus], wait_for: Callable[..., None]
) -> None:
    bus = open_bus(hears=("OBSERVATION", "Q_JOURNAL_ADVANCED"))
    body = (
        '{"signal": "OBSERVATION", "ecosystem": "o", "intensity": 1, "facts": {"ts": 5, "zooid": "alt", "ok": true, '
        '"ttr_ms": 12, "more": "größer"}, "incident_id": null, "trace": null, "ts": 5.0, "schema_version": 1} '
    ).encode()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.PUB) as old:
        old.connect(endpoints.publish)
        time.sleep(0.3)  # an old client has no other way to know that it has joined
        old.send_multipart([b"OBSERVATION", body])
        old.send_multipart([b"OBSERVATION", body])  # the same words again are another observation
        wait_for(lambda: running_proxy.counters.get("journaled_legacy") == 2)
    context.term()
    heard: list[Message] = []
    while not any(message.signal == "Q_JOURNAL_ADVANCED" and message.facts.offset == 2 for message in heard):
        assert bus.pollables()[0].poll(5_000)
        heard += bus.receive()
    observations = [message for message in heard if message.signal == "OBSERVATION"]
    assert [message.offset for message in observations] == [None, None]
    client_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    assert endpoints.journal
    client = JournalClient(client_context, endpoints.journal, SystemClock())
    journal = page_of(client, "", 0).journal
    rows = page_of(client, journal, 0).rows
    assert rows == [(1, "OBSERVATION", body), (2, "OBSERVATION", body)]
    client.close()
    client_context.term()


def test_what_is_passed_on_with_the_offset_it_was_heard_with_is_kept_unless_it_is_there_already(
    running_proxy: ChemProxyDaemon, endpoints: Endpoints, asking: Callable[[], JournalClient],
    open_bus: Callable[..., ZmqBus], wait_for: Callable[..., None],
) -> None:  # fmt: skip
    def passed_on(**changes: object) -> bytes:
        return json.dumps({**json.loads(heard), **changes}).encode()

    bus = open_bus(hears=("FLAG_FOR_REVIEW",))
    with ChemPub(endpoints) as pub:
        for _ in range(2):
            pub.emit("FLAG_FOR_REVIEW", facts=FLAG)
    bodies: list[bytes] = []
    while len(bodies) < 2:
        assert bus.pollables()[0].poll(5_000)
        bodies += [body for _, body in bus.receive_with_bodies()]
    heard = bodies[1]
    counters = running_proxy.counters
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.XPUB) as bridge:
        bridge.connect(endpoints.publish)
        assert bridge.poll(5_000)
        for body in (
            heard,
            passed_on(),
            passed_on(id="elsewhere.1"),
            passed_on(id="elsewhere.2", offset=1, facts=FLAG),
        ):
            bridge.send_multipart([b"FLAG_FOR_REVIEW", body])
        bridge.send_multipart([b"FLAG_FOR_REVIEW", b'{"offset":7,' + BODY[1:]])
        wait_for(lambda: counters.get("foreign_offset") == 5)
    context.term()
    client = asking()
    journal = page_of(client, "", 0).journal
    wait_for(lambda: page_of(client, journal, 0).end == 5)
    rows = page_of(client, journal, 0).rows
    assert [json.loads(body).get("id", "-") for _, _, body in rows[2:]] == ["elsewhere.1", "elsewhere.2", "-"]
    assert not any(b"offset" in body for _, _, body in rows)
    assert rows[4][2] == BODY
    assert "lost_legacy" not in counters
    assert running_proxy.bus.counters.gap == 0


def test_what_was_lost_on_the_way_is_not_waited_for_without_end() -> None:
    published = Published(most=2)
    for body in (b"1", b"2", b"3"):
        published.note(body)
    assert [published.recognise(body) for body in (b"1", b"2", b"3", b"3", b"4")] == [False, True, True, False, False]


def test_a_pub_that_knows_no_journal_is_kept_under_its_own_id(
    running_proxy: ChemProxyDaemon, endpoints: Endpoints, wait_for: Callable[..., None]
) -> None:
    with ChemPub(Endpoints(endpoints.publish, endpoints.subscribe)) as pub:
        message_id = pub.emit("FLAG_FOR_REVIEW", facts=FLAG)
        wait_for(lambda: running_proxy.counters.get("journaled_legacy") == 1)
    assert endpoints.journal
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = JournalClient(context, endpoints.journal, SystemClock())
    answers: list[Appended | NotKept] = []
    assert message_id
    client.append([Entry(message_id, "FLAG_FOR_REVIEW", BODY)], answers.append)
    assert client.wait(lambda: bool(answers), 5.0)
    assert answers == [Appended(1, [1])]
    client.close()
    context.term()


class SizedStore(MemoryJournalStore):
    """Notes how many bytes each commit had."""

    def __init__(self) -> None:
        super().__init__()
        self.commits_bytes: list[int] = []

    def append(self, entries: Sequence[tuple[str, str, bytes]], now_us: int) -> list[tuple[int, bool]]:
        placed = super().append(entries, now_us)
        self.commits_bytes.append(sum(len(body) for _, _, body in entries))
        return placed


@pytest.fixture
def full_disk(
    proxy: Forwarder, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[JournalServer, SizedStore]]:
    """A journal that can keep nothing at present, and lets ten entries of BODY wait; three are a commit."""
    monkeypatch.setattr("kloros.chembus.journal.server._MAX_LEGACY_BYTES", 10 * len(BODY))
    monkeypatch.setattr("kloros.chembus.journal.server._ROUND_BYTES", 2 * len(BODY) + 1)
    store = SizedStore()
    store.lack = "full"
    server = JournalServer(endpoints, store, SystemClock())
    yield server, store
    server.close()


def taken(server: JournalServer, name: str) -> int:
    return sum(server.take(Entry(f"{name}.{n}", "FLAG_FOR_REVIEW", BODY)) for n in range(12))


def test_what_old_clients_send_while_the_disk_is_full_is_bounded_in_bytes_and_kept_later(
    full_disk: tuple[JournalServer, SizedStore], wait_for: Callable[..., None]
) -> None:
    server, store = full_disk
    assert taken(server, "first") == 10
    wait_for(lambda: server.lack is not None)
    assert taken(server, "refused") == 0
    store.lack = None
    wait_for(lambda: server.counters["appended"] == 10)
    assert max(store.commits_bytes) == 3 * len(BODY)
    wait_for(lambda: server.take(Entry("later.1", "FLAG_FOR_REVIEW", BODY)))
    wait_for(lambda: server.counters["appended"] == 11)


def test_what_old_clients_sent_is_kept_whole_when_the_journal_closes(
    full_disk: tuple[JournalServer, SizedStore],
) -> None:
    server, store = full_disk
    assert taken(server, "first") == 10
    store.lack = None
    server.close()
    assert server.counters["appended"] == 10
    assert len(store.commits_bytes) > 3


def test_the_command_says_what_is_kept_and_how_far_everyone_is(
    running_proxy: ChemProxyDaemon,
    endpoints: Endpoints,
    runtime_dir: Path,
    asking: Callable[[], JournalClient],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KLOROS_RUNTIME_DIR", str(runtime_dir))
    with ChemPub(endpoints) as pub:
        for _ in range(3):
            pub.emit("FLAG_FOR_REVIEW", facts=FLAG)
    client = asking()
    page_of(client, page_of(client, "", 0).journal, 0)
    assert call(["journal", "status"]) == 0
    shown = capsys.readouterr().out
    assert "keeps offsets 1 to 3" in shown
    assert "tester" in shown
    assert "3 behind" in shown
    assert call(["journal", "status", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["end_offset"], figures["lack"], figures["counters"]["appended"]) == (3, None, 3)


def test_the_command_says_when_there_is_no_journal(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLOROS_RUNTIME_DIR", str(runtime_dir))
    assert call(["journal", "status"]) == 3
    assert "kloros-chem-proxy" in capsys.readouterr().err
