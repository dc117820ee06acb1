from __future__ import annotations

import json

import pytest

from kloros.chembus import emitter
from kloros.chembus.bus import BusCounters
from kloros.chembus.emitter import MAX_SENT, Emitter
from kloros.chembus.envelope import MAX_MESSAGE_BYTES, MAX_TOPIC_BYTES
from kloros.chembus.vocabulary import suite_vocabulary
from kloros.clock import VirtualClock
from kloros.errors import BusError


class Wire:
    """What an emitter sent."""

    def __init__(self, *, open_facts: bool = False) -> None:
        self.up = True
        self.frames: list[tuple[bytes, bytes]] = []
        self.counters = BusCounters()
        self.emitter = Emitter(
            self.send,
            name="tester",
            niche="n",
            clock=VirtualClock(),
            vocabulary=suite_vocabulary(),
            counters=self.counters,
            open_facts=open_facts,
        )

    def send(self, topic: bytes, body: bytes) -> bool:
        if self.up:
            self.frames.append((topic, body))
        return self.up


def test_ids_are_unique_and_numbers_without_holes() -> None:
    wire = Wire()
    ids = [wire.emitter.emit(f"Q_TRIGGER_{number % 3}") for number in range(30)]
    assert len(set(ids)) == 30
    seqs = [json.loads(body)["seq"] for topic, body in wire.frames if topic == b"Q_TRIGGER_1"]
    assert seqs == list(range(1, 11))


def test_what_did_not_go_out_takes_no_number() -> None:
    wire = Wire()
    wire.up = False
    assert wire.emitter.emit("Q_TRIGGER_X") is None
    wire.up = True
    wire.emitter.emit("Q_TRIGGER_X")
    assert json.loads(wire.frames[0][1])["seq"] == 1
    assert (wire.counters.lost_unjoined, wire.counters.emitted) == (1, 1)


def test_the_farewell_of_one_with_very_many_signals_is_a_small_message() -> None:
    wire = Wire()
    for number in range(MAX_SENT + 500):
        wire.emitter.emit(f"Q_TRIGGER_{'X' * 50}_{number}")
    wire.emitter.farewell()
    topic, body = wire.frames[-1]
    assert topic == b"HEARTBEAT"
    assert len(body) < MAX_MESSAGE_BYTES / 4
    sent = json.loads(body)["facts"]["sent"]
    assert len(sent) == MAX_SENT
    assert f"Q_TRIGGER_{'X' * 50}_{MAX_SENT + 499}" in sent


def test_a_name_that_receivers_would_refuse_is_not_taken_and_its_publisher_can_still_say_farewell() -> None:
    wire = Wire(open_facts=True)
    assert wire.emitter.emit("ü" * (MAX_TOPIC_BYTES // 2))
    with pytest.raises(BusError, match="at most 1024 bytes"):
        wire.emitter.emit("ü" * (MAX_TOPIC_BYTES // 2) + "X")
    wire.emitter.farewell()
    assert [topic for topic, _ in wire.frames][1:] == [b"HEARTBEAT"]


def test_who_said_nothing_says_no_farewell() -> None:
    wire = Wire()
    wire.emitter.farewell()
    assert wire.frames == []


def test_a_publisher_with_too_many_signals_takes_a_new_name() -> None:
    wire = Wire()
    first = wire.emitter.pub
    limit, emitter.MAX_LINES = emitter.MAX_LINES, 10
    try:
        for number in range(11):
            wire.emitter.emit(f"Q_TRIGGER_{number}")
    finally:
        emitter.MAX_LINES = limit
    assert wire.emitter.pub != first
    wire.emitter.emit("Q_TRIGGER_0")
    last = json.loads(wire.frames[-1][1])
    assert (last["seq"], last["pub"]) == (1, wire.emitter.pub)
