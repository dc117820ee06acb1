"""What becomes of each signal in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.chain import ACTION, CONCLUDED, DECIDED, FLAG, FOUND, GAP, QUESTION, TS, message, whole_life

from kloros.chembus.vocabulary import VOCABULARY
from kloros.consumers.decay_daemon import DecayDaemon
from kloros.consumers.memory.events import Event, event_of
from kloros.consumers.memory.fading import Fading, Sector
from kloros.consumers.memory.recorder import Recorder
from kloros.consumers.memory.settings import MemorySettings
from kloros.consumers.memory.store import MEMORY_TABLES, Memory, MemoryStore
from kloros.consumers.memory.words import cut, lasted
from kloros.storage.database import Database

SETTINGS = MemorySettings()
NOW_US = round(TS * 1e6) + 3_600_000_000


def event(signal: str, **facts: Any) -> Event:
    told = event_of(message(signal, facts))
    assert told is not None
    return told


ACTED = {"action_id": ACTION, "action_type": "restart_unit", "target": "web.service"}


@pytest.mark.parametrize(
    ("signal", "facts", "sector"),
    [
        ("CAPABILITY_GAP", FOUND, Sector.EPISODIC),
        ("CAPABILITY_GAP", {**FOUND, "severity": "critical"}, Sector.EMOTIONAL),
        ("CAPABILITY_RESTORED", FOUND, Sector.EPISODIC),
        ("Q_CURIOSITY_CRITICAL", {"question_id": QUESTION, "question": "Why?"}, Sector.EPISODIC),
        ("Q_CURIOSITY_INVESTIGATE", {"question_id": QUESTION, "question": "Why?"}, Sector.EPISODIC),
        ("Q_QUESTION_FOLDED", {"question_id": "q-1", "folded_into": QUESTION, "similarity": 0.9}, Sector.EPISODIC),
        ("Q_INVESTIGATION_COMPLETE", CONCLUDED, Sector.SEMANTIC),
        ("Q_INVESTIGATION_COMPLETE", {"question_id": QUESTION, "status": "timed_out"}, Sector.EPISODIC),
        ("Q_INVESTIGATION_COMPLETE", {"question_id": QUESTION, "status": "concluded"}, Sector.EPISODIC),
        ("Q_ACTION_SPAWNED", ACTED, Sector.EPISODIC),
        *(("Q_ACTION_COMPLETE", {**ACTED, "outcome": outcome}, Sector.PROCEDURAL)
          for outcome in ("helped", "no_help", "failed", "timed_out")),
        *(("Q_ACTION_COMPLETE", {**ACTED, "outcome": outcome}, Sector.EPISODIC)
          for outcome in ("observed", "rejected", "expired", "refused", "withdrawn", None)),
        ("Q_ACTION_DECIDED", DECIDED | {"accepted": True}, Sector.EPISODIC),
        ("FLAG_FOR_REVIEW", {"flag_id": FLAG, "rationale": "look", "severity": "critical"}, Sector.EMOTIONAL),
        ("FLAG_FOR_REVIEW", {"flag_id": FLAG, "rationale": "look"}, Sector.EPISODIC),
        ("FLAG_CLOSED", {"flag_id": FLAG, "reason": "mended"}, Sector.EPISODIC),
        ("Q_ENACTMENT", {"action_id": "i-1", "module_name": "m", "action_kind": "tune", "status": "enacted"},
         Sector.PROCEDURAL),
        ("Q_REFLECTION_REPORT", {"action_id": "i-1", "verdict": "better"}, Sector.REFLECTIVE),
        ("Q_SHADOW_VERDICT", {"candidate": {"a": 1}, "verdict": "promoted", "drift": 0.0001}, Sector.REFLECTIVE),
        ("Q_TOURNAMENT_COMPLETE", {"candidate": "c1", "verdict": "champion", "fitness": 0.9}, Sector.REFLECTIVE),
        ("AFFECT_EMERGENCY_BRAKE", {"cause": "no memory left"}, Sector.EMOTIONAL),
        ("AFFECT_STATE_CHANGE", {"state": "calm"}, Sector.EMOTIONAL),
    ],
)  # fmt: skip
def test_each_signal_has_its_sector(signal: str, facts: dict[str, Any], sector: Sector) -> None:
    told = event(signal, **facts)
    assert told.sector is sector
    assert 0 <= told.importance <= 1
    assert told.text


def test_every_signal_that_is_consumed_makes_a_memory_or_touches_one() -> None:
    known = [signal.name for signal in VOCABULARY]
    for topic in DecayDaemon.consumes:
        matching = [name for name in known if name == topic or (topic[-1] == "*" and name.startswith(topic[:-1]))]
        assert matching, topic


def test_what_passes_all_the_time_or_had_no_effect_is_not_worth_remembering() -> None:
    assert event_of(message("AFFECT_STATE", {"state": "calm"})) is None
    assert event_of(message("Q_ACTION_DECIDED", DECIDED | {"accepted": False})) is None
    assert event_of(message("Q_CYCLE_REPORT", {
        "daemon": "d", "schedule": "s", "source": "trigger", "outcome": "ok", "started_ts": 1, "duration_s": 0,
    })) is None  # fmt: skip


@pytest.mark.parametrize("severities", [("info", "low", "medium", "high", "critical")])
def test_the_more_severe_and_the_surer_the_more_important(severities: tuple[str, ...]) -> None:
    found = [event("CAPABILITY_GAP", **FOUND | {"severity": severity}).importance for severity in severities]
    assert found == sorted(set(found))
    learnt = [event("Q_INVESTIGATION_COMPLETE", **CONCLUDED | {"confidence": c}).importance for c in (0.1, 0.5, 1.0)]
    assert learnt == sorted(set(learnt))
    outcomes = ("observed", "failed", "no_help", "helped")
    done = [event("Q_ACTION_COMPLETE", **ACTED, outcome=outcome).importance for outcome in outcomes]
    assert done == sorted(set(done))


def test_the_incident_says_which_finding_a_memory_belongs_to() -> None:
    told = event_of(message("Q_ACTION_DECIDED", DECIDED | {"accepted": True}, incident_id=GAP))
    assert told is not None
    assert told.gap_id == GAP


def test_words_are_cut_to_one_line() -> None:
    assert cut("a\n b" + "x" * 50, 10) == "a bxxxx..."
    assert [lasted(seconds) for seconds in (0.4, 90, 600, 9000, 300_000)] == ["0 s", "90 s", "10 min", "2 h", "3 d"]


# Remembering


class Book:
    """A memory on disk."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore(Database(folder / "state.db", MEMORY_TABLES))
        self.fading = Fading(SETTINGS.half_life_h, SETTINGS.fading)
        self.recorder = Recorder(self.store, self.fading, 400)

    def remember(self, signal: str, after_s: float = 0.0, **facts: Any) -> Memory:
        told = message(signal, facts, TS + after_s)
        with self.store.database.transaction():
            self.recorder.remember([told], NOW_US + round(after_s * 1e6))
        what = event_of(told)
        assert what is not None
        return self.of(what.key)

    def of(self, key: str) -> Memory:
        memory = self.store.by_key(key)
        assert memory is not None
        return memory

    def score(self, memory: Memory, at_s: float) -> float:
        age_us = round((TS + at_s) * 1e6) - memory.born_us
        return self.fading.score(memory.sector, memory.importance, age_us)


@pytest.fixture
def book(tmp_path: Path) -> Any:
    opened = Book(tmp_path)
    yield opened
    opened.store.database.close()


HOUR_S = 3600.0


def test_a_whole_life_is_five_memories_that_know_their_finding(book: Book) -> None:
    with book.store.database.transaction():
        counts = book.recorder.remember(whole_life(), NOW_US)
    assert counts == {"new": 6, "accessed": 5}
    told = {memory.key: memory for memory in book.store.about_gap(GAP)}
    assert list(told) == [
        f"finding:{GAP}", f"question:{QUESTION}", f"conclusion:{GAP}/exec_missing", f"action:{ACTION}", f"flag:{FLAG}",
    ]  # fmt: skip
    assert told[f"finding:{GAP}"].note == "over after 7 min"
    assert told[f"question:{QUESTION}"].note == "stands for 2"
    assert told[f"action:{ACTION}"].text == "restart_unit web.service: helped"
    assert told[f"action:{ACTION}"].sector is Sector.PROCEDURAL
    assert (told[f"flag:{FLAG}"].text, told[f"flag:{FLAG}"].note) == (
        "restart_unit web.service is only observed",
        "closed: the finding ended",
    )
    assert told[f"flag:{FLAG}"].related == ACTION
    assert {memory.times for memory in told.values()} == {1}


def test_the_same_finding_again_is_remembered_better_not_twice(book: Book) -> None:
    first = book.remember("CAPABILITY_GAP", **FOUND)
    later_s = 168 * HOUR_S
    before = book.score(first, later_s)
    again = book.remember("CAPABILITY_GAP", later_s, **FOUND)
    assert (again.number, again.times) == (first.number, 2)
    assert book.score(again, later_s) == pytest.approx(before + 0.5 * (1 - before))
    assert again.accessed_us - first.accessed_us == round(later_s * 1e6)
    assert again.created_us == first.created_us


def test_the_same_conclusion_again_is_the_same_memory_and_another_one_is_not(book: Book) -> None:
    first = book.remember("Q_INVESTIGATION_COMPLETE", **CONCLUDED)
    again = book.remember("Q_INVESTIGATION_COMPLETE", 60, **CONCLUDED | {"question_id": "q-2", "confidence": 0.5})
    other = book.remember("Q_INVESTIGATION_COMPLETE", 90, **CONCLUDED | {"rule": "oom"})
    assert first.number == again.number != other.number
    assert again.importance == first.importance  # being less sure later takes nothing away
    assert again.related == f"{QUESTION} q-2"


def test_what_becomes_critical_becomes_a_memory_that_alarms_and_stays_one(book: Book) -> None:
    book.remember("CAPABILITY_GAP", **FOUND)
    worse = book.remember("CAPABILITY_GAP", 60, **FOUND | {"severity": "critical", "change": "worsened"})
    assert (worse.sector, worse.importance, worse.note, worse.times) == (Sector.EMOTIONAL, 1.0, "became worse", 1)
    mild = book.remember("CAPABILITY_GAP", 90, **FOUND | {"severity": "low"})
    assert (mild.sector, mild.importance, mild.severity) == (Sector.EMOTIONAL, 1.0, "low")


def test_what_is_told_late_is_remembered_as_of_its_own_moment_but_never_of_the_future(book: Book) -> None:
    old = book.remember("CAPABILITY_GAP", **FOUND)
    assert old.created_us == round(TS * 1e6)
    with book.store.database.transaction():
        ahead = message("FLAG_FOR_REVIEW", {"flag_id": FLAG, "rationale": "x"}, TS + 10 * 365 * 86_400)
        book.recorder.remember([ahead], NOW_US)
    assert book.of(f"flag:{FLAG}").created_us == NOW_US


def test_looking_at_a_memory_keeps_it_alive_and_looking_for_none_does_nothing(book: Book) -> None:
    first = book.remember("CAPABILITY_GAP", **FOUND)
    looks = [message("Q_MEMORY_ACCESSED", {"memory": number}, TS + 1000 * HOUR_S) for number in (first.number, 999)]
    with book.store.database.transaction():
        assert book.recorder.remember(looks, NOW_US * 2) == {"accessed": 1, "passed": 1}
    seen = book.of(first.key)
    assert book.score(seen, 1000 * HOUR_S) > 0.5 > book.score(first, 1000 * HOUR_S)
    assert seen.born_us > first.born_us
    assert (seen.text, seen.times) == (first.text, first.times)


def test_a_decision_on_an_action_nobody_remembers_is_a_memory_of_its_own(book: Book) -> None:
    told = book.remember("Q_ACTION_DECIDED", **DECIDED, accepted=True)
    assert (told.text, told.note) == (f"action {ACTION}", "approved by Zoë")
    later = book.remember("Q_ACTION_COMPLETE", 5, **ACTED, outcome="helped", gap_id=GAP)
    assert (later.text, later.gap_id) == ("restart_unit web.service: helped", GAP)


def test_texts_are_bounded_and_ids_too(book: Book) -> None:
    huge = book.remember("FLAG_FOR_REVIEW", flag_id=FLAG, rationale="word " * 10_000, cure="do " * 10_000)
    assert len(huge.text) == len(huge.note) == 400
    for number in range(50):
        huge = book.remember("FLAG_FOR_REVIEW", number, flag_id=FLAG, rationale="x", action_id=f"a-{number}")
    assert huge.related.split() == [f"a-{number}" for number in range(42, 50)]


def test_memories_are_found_by_what_is_in_them(book: Book) -> None:
    for number in range(5):
        facts = FOUND | {"gap_id": f"g{number}", "detail": f"disk{number} is 100% full_"}
        book.remember("CAPABILITY_GAP", number, **facts)
    book.remember("Q_INVESTIGATION_COMPLETE", 9, **CONCLUDED)
    latest = book.store.latest
    assert [memory.id for memory in latest(3)] == [f"{GAP}/exec_missing", "g4", "g3"]
    assert [memory.kind for memory in latest(9, Sector.SEMANTIC)] == ["conclusion"]
    assert [memory.id for memory in latest(9, about="DISK2")] == ["g2"]
    assert len(latest(9, about="100% full_")) == 5
    assert latest(9, about="100_ full%") == []
    assert [memory.id for memory in book.store.by_id_beginning("g", 3)] == ["g0", "g1", "g2"]
    assert msgspec.json.encode(latest(1))
