"""Folding, absence and the buffer of the historian, each by itself."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.envelope import Message
from kloros.chembus.facts import Facts, HeartbeatFacts, TickEntry, TickFacts
from kloros.consumers.history.absence import Absence
from kloros.consumers.history.buffer import HistoryBuffer
from kloros.consumers.history.thinning import Thinner
from kloros.storage.history_rows import Gap, Mark, Row

S = 1_000_000
PUB = "someone@b.1.x"


def message(signal: str, facts: Facts, pub: str = PUB) -> Message:
    return Message(signal=signal, ecosystem="e", facts=facts, ts=1.0, pub=pub, seq=1)


def heartbeat(**told: object) -> Message:
    told = {"zooid": "z", "niche": "n", "uptime_s": 1.0, "processed_count": 1, "mode": "normal"} | told
    return message("HEARTBEAT", HeartbeatFacts(**told))  # type: ignore[arg-type]


def tick(number: int, page: int = 0, **told: object) -> Message:
    entries = {
        "scan": TickEntry(signal="Q_T", interval_s=5.0, paused=bool(told.pop("paused", False)), last_beat=number)
    }
    return message("Q_SCHEDULE_TICK", TickFacts(tick=number, uptime_s=1.0, page=page, entries=entries, **told))  # type: ignore[arg-type]


def row(ts_us: int, seq: int | None = None, signal: str = "T", size: int = 10) -> Row:
    return Row(ts_us, signal, "someone", PUB, None, b"x" * size, seq)


def kept_of(messages: list[Message], every_s: float = 60.0, step_s: float = 1.0) -> list[int]:
    thinner = Thinner({"HEARTBEAT": every_s, "Q_SCHEDULE_TICK": every_s})
    kept = []
    for number, each in enumerate(messages):
        ts_us = round(number * step_s * S)
        if thinner.stand_in(each, ts_us) is None:
            thinner.kept(each, row(ts_us))
            kept.append(number)
    return kept


def test_of_ticks_that_say_the_same_one_is_kept_each_minute() -> None:
    assert kept_of([tick(number) for number in range(200)]) == [0, 60, 120, 180]


def test_what_changes_is_kept_at_once() -> None:
    told = [tick(1), tick(2), tick(3, paused=True), tick(4, paused=True), tick(5), tick(6, maintenance=True)]
    assert kept_of(told) == [0, 2, 4, 5]
    beats = [heartbeat(), heartbeat(processed_count=7), heartbeat(mode="fallback"), heartbeat(counters={"gap": 3})]
    assert kept_of(beats) == [0, 2, 3]


def test_each_publisher_and_each_page_has_its_own_stand_in() -> None:
    told = [heartbeat(), message("HEARTBEAT", heartbeat().facts, "other@b.1.y"), heartbeat()]
    assert kept_of(told) == [0, 1]
    assert kept_of([tick(1, page=0), tick(1, page=1), tick(2, page=0), tick(2, page=1)]) == [0, 1]


def test_a_clock_that_is_set_back_begins_a_new_row() -> None:
    thinner = Thinner({"HEARTBEAT": 60.0})
    thinner.kept(heartbeat(), row(100 * S))
    assert thinner.stand_in(heartbeat(), 99 * S) is None


def test_what_came_between_two_runs_is_known_by_number_and_told_once() -> None:
    mark = Mark(PUB, "T", 10, 5)
    absence = Absence([mark, Mark(PUB, "U", 3, 5), Mark("other@b.1.y", "T", 1, 5)])
    assert absence.heard(PUB, "T", 15) == (mark, 4)
    assert absence.heard(PUB, "T", 17) is None
    assert absence.told(PUB, {"T": 20, "U": 3, "NEW": 9}) == []
    assert absence.told("other@b.1.y", {"T": 4})[0][1] == 3
    assert not absence


def test_a_row_in_the_buffer_takes_its_repeats_and_a_stored_one_gets_them_later() -> None:
    buffer = HistoryBuffer(10, 10_000)
    first = row(1, 1)
    assert buffer.offer(first)
    buffer.repeat(first, 2, 5)
    load = buffer.take()
    assert (load.rows[0].repeats, load.rows[0].last_us, load.repeats) == (1, 5, [])
    buffer.repeat(first, 3, 7)
    buffer.repeat(first, 4, 6)
    buffer.stored()
    (later,) = buffer.take().repeats
    assert (later.row, later.count, later.last_us) == (first, 2, 7)


def test_room_is_taken_until_the_disk_has_it() -> None:
    buffer = HistoryBuffer(3, 1 << 20)
    assert [buffer.offer(row(ts)) for ts in range(4)] == [True, True, True, False]
    load = buffer.take()
    assert not buffer.offer(row(9))
    assert sum(gap.missing for gap in load.gaps) == 1
    buffer.give_back(load)
    assert len(buffer) == 3
    again = buffer.take()
    assert [each.ts_us for each in again.rows] == [0, 1, 2]
    assert sum(gap.missing for gap in again.gaps) == 2
    buffer.stored()
    assert buffer.offer(row(10))


def test_bytes_are_bounded_too() -> None:
    buffer = HistoryBuffer(1_000, 10_000)
    taken = [buffer.offer(row(ts, size=2_000)) for ts in range(10)]
    assert 3 <= sum(taken) <= 5
    assert buffer.dropped == 10 - sum(taken)


@given(st.lists(st.sampled_from(["offer", "repeat", "miss", "take", "stored", "back"]), max_size=80))
def test_whatever_happens_everything_offered_comes_out_once_or_is_counted(script: list[str]) -> None:
    buffer = HistoryBuffer(5, 1 << 20)
    offered, stored, out, last = Counter[str](), 0, None, None
    missing = 0

    def put(load: object) -> int:
        return len(load.rows) + sum(r.repeats for r in load.rows) + sum(r.count for r in load.repeats)  # type: ignore[attr-defined]

    for number, act in enumerate([*script, "back", "take", "stored"]):
        if act == "offer":
            offered["sent"] += 1
            each = row(number, number + 1)
            last = each if buffer.offer(each) else last
        elif act == "repeat" and last is not None:
            offered["sent"] += 1
            buffer.repeat(last, number + 1, number)
        elif act == "miss":
            offered["sent"] += 2
            buffer.miss(Gap("lost", "T", "someone", PUB, number, number, 2))
        elif act == "take" and out is None:
            out = buffer.take()
        elif act == "stored" and out is not None:
            stored, missing = stored + put(out), missing + sum(gap.missing for gap in out.gaps)
            buffer.stored()
            out = None
        elif act == "back" and out is not None:
            buffer.give_back(out)
            out = None
    assert stored + missing == offered["sent"]
