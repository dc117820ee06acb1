"""`kloros story` and `kloros memory` on real files, as the historian and decay leave them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.chain import ACTION, FLAG, GAP, QUESTION, TS, whole_life, write_history
from support.verb import Verb

from kloros.chembus.envelope import Message
from kloros.consumers.memory.fading import Fading
from kloros.consumers.memory.recorder import Recorder
from kloros.consumers.memory.settings import MemorySettings
from kloros.consumers.memory.store import MEMORY_TABLES, MemoryStore
from kloros.storage.history_reader import HistoryReader
from kloros.storage.state_store import StateStore

DAY_S = 86_400.0
NO_TEXT = os.fsdecode(b"gro\xdf")
LIVES = [*whole_life(), *whole_life(TS + DAY_S)]


class VerbOn(Verb):
    """The command, and the state it looks at."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        super().__init__(capsys)
        self.folder = folder


@pytest.fixture
def kloros(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> VerbOn:
    for name in ("CONFIG", "STATE", "RUNTIME"):
        monkeypatch.setenv(f"KLOROS_{name}_DIR", str(runtime_dir / name.lower()))
    return VerbOn(capsys, runtime_dir / "state")


def remember(kloros: VerbOn, messages: list[Message]) -> None:
    state = StateStore(kloros.folder / "decay/state.db", MEMORY_TABLES)
    settings = MemorySettings()
    with state.database.transaction():
        recorder = Recorder(MemoryStore(state.database), Fading(settings.half_life_h, settings.fading), 400)
        recorder.remember(messages, round((TS + 2 * DAY_S) * 1e6))
    state.close()


def record(kloros: VerbOn, messages: list[Message]) -> None:
    write_history(kloros.folder / "chembus_historian/state.db", messages)


# The story


@pytest.mark.parametrize("wanted", [GAP, GAP[:5], QUESTION, QUESTION[:5], ACTION, ACTION[:4], FLAG, FLAG[:4]])
@pytest.mark.parametrize("has_memory", [True, False], ids=["with memory", "history alone"])
def test_any_id_of_the_chain_leads_to_its_whole_life(kloros: VerbOn, wanted: str, has_memory: bool) -> None:
    record(kloros, LIVES)
    if has_memory:
        remember(kloros, LIVES)
    told = kloros.json("story", wanted)
    assert (told["incident"], told["source"], told["lives_known"]) == (GAP, "history", 2)
    (life,) = told["lives"]
    assert (life["since_ts"], life["lasted_s"]) == (TS + DAY_S, 415.0)
    assert [step["word"] for step in life["steps"]] == [
        "found", "asked", "handed on", "investigated", "recommended", "taken up", "flagged", "approved", "acted",
        "verified", "restored", "unflagged",
    ]  # fmt: skip


def test_it_reads_from_top_to_bottom(kloros: VerbOn) -> None:
    record(kloros, LIVES)
    assert kloros("story", GAP) == 0
    heading, day, *lines, earlier = kloros.out.splitlines()
    assert heading.startswith(f"web.service (unit_unhealthy), {GAP}, life 2 of 2: since ")
    assert heading.endswith(", over after 7 min")
    assert day.startswith("-- 2025-11-1")
    assert [line[24:37].strip() for line in lines if line[24:37].strip()][:4] == [
        "found", "asked", "handed on", "investigated",
    ]  # fmt: skip
    assert "+50 s" in lines[2]
    assert lines[4].endswith("its program /opt/web is missing (exec_missing, 95 %) (took 1.2 s)")
    assert earlier == f"1 earlier: kloros story {GAP} --all"
    kloros("story", GAP, "--all")
    assert kloros.out.count("found ") == 2


def test_without_a_history_it_tells_what_is_remembered_and_says_so(kloros: VerbOn) -> None:
    remember(kloros, LIVES)
    assert kloros("story", ACTION) == 0
    assert "only what is remembered (no history" in kloros.err
    assert f"{GAP}: as it is remembered" in kloros.out
    told = kloros.json("story", QUESTION)
    assert (told["source"], told["incident"]) == ("memory", GAP)
    assert [step["word"] for step in told["lives"][0]["steps"]] == [
        "found",
        "asked",
        "investigated",
        "acted",
        "flagged",
    ]


def test_what_the_history_has_let_go_of_is_told_from_memory(kloros: VerbOn) -> None:
    record(kloros, [each for each in LIVES if each.incident_id != GAP])
    remember(kloros, LIVES)
    assert kloros("story", GAP) == 0
    assert "the history does not know it any more" in kloros.err


def test_what_is_called_so_nowhere_and_what_is_not_enough(kloros: VerbOn) -> None:
    assert kloros("story", "q-1") == 2
    assert "no history" in kloros.err
    assert "no memory" in kloros.err
    record(kloros, LIVES)
    assert kloros("story", "zzz") == 2
    assert "is called 'zzz'" in kloros.err
    assert kloros("story", "q-") == 2
    assert "is the beginning of 2 ids" in kloros.err


def test_incidents_are_found_by_their_beginning(kloros: VerbOn) -> None:
    record(kloros, LIVES)
    with HistoryReader(kloros.folder / "chembus_historian/state.db") as reader:
        assert reader.incidents("", 10) == [GAP, "another"]
        assert reader.incidents("4f", 10) == [GAP]
        assert reader.incidents("", 1) == [GAP]
        assert reader.incidents("x", 10) == []


# The memory


def test_memories_are_listed_and_narrowed(kloros: VerbOn) -> None:
    remember(kloros, LIVES)
    told = kloros.json("memory")
    assert told["count"] == 6
    assert [each["kind"] for each in told["memories"]][:2] == ["flag", "finding"]
    assert all(0 <= each["score"] <= 1 and each["fades_ts"] > each["created_ts"] for each in told["memories"])
    assert [each["sector"] for each in kloros.json("memory", "--sector", "semantic")["memories"]] == ["semantic"]
    assert [each["id"] for each in kloros.json("memory", "--about", "WEB.SERVICE: HELPED")["memories"]] == [ACTION]
    assert len(kloros.json("memory", "--last", "2")["memories"]) == 2
    assert kloros("memory") == 0
    assert "6 memories" in kloros.out
    assert kloros("memory", "--sector", "melancholic") == 2


@pytest.mark.parametrize("wanted", [GAP, GAP[:6], "1"])
def test_one_memory_is_shown_and_says_when_the_look_does_not_count(kloros: VerbOn, wanted: str) -> None:
    remember(kloros, LIVES)
    assert kloros("memory", "show", wanted) == 0
    assert kloros.out.startswith(f"finding {GAP}\n  web.service failed: exit code 203\n  over after 7 min\n")
    assert f"kloros story {GAP}" in kloros.out
    assert "does not count as an access" in kloros.err
    assert kloros.json("memory", "show", wanted)["access_noted"] is False


def test_a_memory_that_is_not_there_or_not_the_only_one(kloros: VerbOn) -> None:
    assert kloros("memory") == 4
    remember(kloros, LIVES)
    assert kloros("memory", "show", "99") == 2
    assert kloros("memory", "show", "q-") == 2
    assert "is the beginning of 2 ids" in kloros.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("story", NO_TEXT),
        ("memory", "show", NO_TEXT),
        ("memory", "--about", NO_TEXT),
        ("bus", "history", "--signal", NO_TEXT),
        ("bus", "history", "--daemon", NO_TEXT),
        ("bus", "history", "--incident", NO_TEXT),
    ],
    ids=lambda arguments: "_".join(arguments[:-1]),
)
def test_what_is_no_text_is_a_wrong_call(kloros: VerbOn, arguments: tuple[str, ...]) -> None:
    record(kloros, LIVES)
    remember(kloros, LIVES)
    assert kloros(*arguments) == 2
    assert kloros.err == "kloros: the argument 'gro\\xdf' is not UTF-8; write it in UTF-8\n"
    assert kloros.out == ""
