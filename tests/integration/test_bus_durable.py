"""What every bus does alike with durable signals: one suite, on the bus in memory and on ZeroMQ with a real journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kloros.chembus.bus import Bus
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.journal.contract import Appended, Entry, Journal, NotKept, Page
from kloros.chembus.journal.server import JournalServer
from kloros.chembus.memory import MemoryBus, MemoryHub
from kloros.chembus.proxy import Forwarder
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import SystemClock
from kloros.errors import BadFacts
from kloros.storage.journal_store import JournalStore

MakeBus = Callable[..., Bus]


def flag(name: str) -> dict[str, str]:
    return {"flag_id": name, "module_name": "m", "rationale": "größer"}


@pytest.fixture(params=["memory", "zmq"])
def make_bus(request: pytest.FixtureRequest, endpoints: Endpoints, tmp_path: Path) -> Iterator[MakeBus]:
    hub = MemoryHub()
    with ExitStack() as closing:
        if request.param == "zmq":
            closing.callback(Forwarder([endpoints]).close)
            store = JournalStore(tmp_path / "journal.db")
            closing.callback(store.close)
            closing.callback(JournalServer(endpoints, store, SystemClock()).close)

        def make(name: str = "tester", *hears: str) -> Bus:
            bus: Bus = ZmqBus(endpoints, name=name) if request.param == "zmq" else MemoryBus(hub, name=name)
            closing.callback(bus.close)
            for topic in hears:
                bus.subscribe(topic)
            bus.join(5.0)
            return bus

        yield make


def hear(bus: Bus, count: int) -> list[Message]:
    heard: list[Message] = []
    deadline_s = time.monotonic() + 10.0
    while len(heard) < count and time.monotonic() < deadline_s:
        heard += bus.receive()
        time.sleep(0.005)
    return heard


def turned(journal: Journal, answers: list[object]) -> object:
    deadline_s = time.monotonic() + 10.0
    while not answers and time.monotonic() < deadline_s:
        journal.turn()
        time.sleep(0.005)
    return answers.pop()


@pytest.fixture
def reading(make_bus: MakeBus) -> Iterator[Callable[..., Page]]:
    journal = make_bus("reader").open_journal()

    def read(after: int, *signals: str, limit: int = 100) -> Page:
        answers: list[object] = []
        journal.fetch("reader", ["*"], "", 0, 1, answers.append)
        name = turned(journal, answers)
        assert isinstance(name, Page)
        journal.fetch("reader", signals or ["*"], name.journal, after, limit, answers.append)
        page = turned(journal, answers)
        assert isinstance(page, Page)
        return page

    yield read
    journal.close()


def test_what_is_emitted_is_kept_in_order_and_heard_live_with_its_offset(
    make_bus: MakeBus, reading: Callable[..., Page]
) -> None:
    emitter, hearer = make_bus("emitter"), make_bus("hearer", "FLAG_FOR_REVIEW")
    ids = [emitter.emit("FLAG_FOR_REVIEW", flag(name)) for name in "abc"]
    page = reading(0)
    assert [(offset, signal) for offset, signal, _ in page.rows] == [(n, "FLAG_FOR_REVIEW") for n in (1, 2, 3)]
    assert (page.next_after, page.end, page.missing) == (3, 3, 0)
    heard = hear(hearer, 3)
    assert [(message.id, message.offset, message.seq) for message in heard] == [
        (message_id, n, n) for n, message_id in enumerate(ids, 1)
    ]
    assert hearer.counters.gap == 0


def test_the_doorbell_names_what_came_and_how_far_it_goes(make_bus: MakeBus) -> None:
    emitter, hearer = make_bus("emitter"), make_bus("hearer", "Q_JOURNAL_ADVANCED")
    emitter.emit("FLAG_FOR_REVIEW", flag("a"))
    (rung,) = hear(hearer, 1)
    assert (rung.facts.offset, rung.facts.signals) == (1, ["FLAG_FOR_REVIEW"])


def test_facts_that_do_not_fit_are_kept_nowhere(make_bus: MakeBus, reading: Callable[..., Page]) -> None:
    with pytest.raises(BadFacts):
        make_bus("emitter").emit("FLAG_FOR_REVIEW", {"flag_id": 1})
    assert reading(0).end == 0


def test_appends_are_whole_and_repeatable(make_bus: MakeBus, reading: Callable[..., Page]) -> None:
    journal = make_bus("emitter").open_journal()
    answers: list[object] = []
    entries = [Entry(f"a.{n}", "FLAG_FOR_REVIEW", b'{"signal":"FLAG_FOR_REVIEW"}') for n in range(3)]
    for _ in range(2):
        journal.append(entries, answers.append)
        assert getattr(turned(journal, answers), "offsets", None) == [1, 2, 3]
    journal.append([Entry("b.1", "FLAG_FOR_REVIEW", b'{"a":1}'), Entry("b.2", "FLAG_FOR_REVIEW", b"")], answers.append)
    refused = turned(journal, answers)
    assert isinstance(refused, NotKept)
    assert refused.reason == "bad"
    assert not isinstance(refused, Appended)
    journal.close()
    assert reading(0).end == 3


def test_a_reader_names_what_it_wants(make_bus: MakeBus, reading: Callable[..., Page]) -> None:
    emitter = make_bus("emitter")
    emitter.emit("FLAG_FOR_REVIEW", flag("a"))
    for signal in ("CAPABILITY_GAP", "CAPABILITY_RESTORED"):
        emitter.emit(signal, {"gap_id": "g", "gap_type": "t", "gap_name": "n", "severity": "high"})
    assert [row[0] for row in reading(0, "CAPABILITY_*").rows] == [2, 3]
    assert [row[0] for row in reading(0, "FLAG_FOR_REVIEW", "CAPABILITY_RESTORED").rows] == [1, 3]
    assert (reading(0, "*", limit=2).next_after, reading(2, "OBSERVATION").next_after) == (2, 3)
