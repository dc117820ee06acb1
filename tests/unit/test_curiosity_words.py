"""Questions as a person would ask them, and which are about questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.consumers.curiosity.about import is_about_questions
from kloros.consumers.curiosity.wording import MAX_HYPOTHESIS_CHARS, MAX_QUESTION_CHARS, hypothesis, question


@pytest.mark.parametrize(
    ("gap_type", "name", "evidence", "asked"),
    [
        ("unit_unhealthy", "nginx.service", {"problem": "failed", "exit": "exit-code, status 203/EXEC"},
         "Why does nginx.service fail with exit status 203/EXEC?"),
        ("unit_unhealthy", "a.service", {"problem": "failed", "exit": "signal, signal 9"},
         "Why does a.service fail with signal 9?"),
        ("unit_unhealthy", "a.service", {"problem": "failed", "exit": "oom-kill, signal 9"},
         "Why does a.service fail with an out-of-memory kill?"),
        ("unit_unhealthy", "a.mount", {"problem": "failed", "result": "timeout"},
         "Why does a.mount fail with a time-out?"),
        ("unit_unhealthy", "a.service", {"problem": "start_limited", "exit": "exit-code, status 1"},
         "Why does a.service fail with exit status 1 again and again, until systemd gives up?"),
        ("unit_unhealthy", "a.service", {"problem": "flapping", "exit": "exit-code, status 1"},
         "Why does a.service have to be restarted again and again, lately after exit status 1?"),
        ("unit_unhealthy", "a.service", {"problem": "flapping", "result": "success"},
         "Why does a.service have to be restarted again and again?"),
        ("unit_unhealthy", "a.service", {"problem": "stuck"}, "Why does a.service neither get started nor stopped?"),
        ("unit_unhealthy", "a.service", {"problem": "waiting_to_restart", "exit": "core-dump, signal 11"},
         "Why does a.service fail with a core dump whenever it is started?"),
        ("unit_unhealthy", "a.service", {}, "Why does a.service fail?"),
        ("journal_errors", "app.service: cannot open <path>", {},
         "Why does app.service log the error “cannot open <path>”?"),
        ("pressure_memory", "memory", {}, "What keeps the memory so busy that work has to wait?"),
        ("disk_full", "/var", {}, "What fills the disk at /var?"),
        ("process_files_exhausted", "nginx[12]", {}, "Why does nginx keep nearly as many files open as it may?"),
        ("daemon_silent", "x_daemon", {}, "Why is x_daemon not heard any more?"),
        ("bus_gap", "x: HEARTBEAT", {}, "Why does x miss messages of HEARTBEAT?"),
        ("bus_drop", "x: HEARTBEAT", {"observer": "x", "signal": "HEARTBEAT"},
         "Why does x drop messages of HEARTBEAT?"),
        ("disk_full", "/{0}", {}, "What fills the disk at /(0)?"),
        ("raid_degraded", "md0", {}, "What is wrong with md0 (raid degraded)?"),
    ],
)  # fmt: skip
def test_what_is_asked(gap_type: str, name: str, evidence: dict[str, str], asked: str) -> None:
    assert question(gap_type, name, evidence) == asked


def test_the_guess_says_what_was_seen_and_measured() -> None:
    guess = hypothesis(
        "unit_unhealthy", {"exit": "exit-code, status 217/USER"}, "x failed", ["restarts=5", "message=long text"]
    )
    assert guess == "The user in User= does not exist. Seen: x failed (restarts=5)"
    assert hypothesis("anything", {}, "", []) == ""


@given(st.text(max_size=5_000), st.text(max_size=5_000), st.dictionaries(st.text(max_size=9), st.text(max_size=900)))
def test_whatever_was_found_there_is_a_question_of_one_line(gap_type: str, name: str, evidence: dict[str, str]) -> None:
    for each in (gap_type, "unit_unhealthy", "journal_errors", "disk_full", "bus_gap"):
        asked = question(each, name, evidence)
        assert 0 < len(asked) <= MAX_QUESTION_CHARS
        assert len(asked.splitlines()) == 1
    assert len(hypothesis(gap_type, evidence, name, [name])) <= MAX_HYPOTHESIS_CHARS


@pytest.mark.parametrize(
    ("gap_type", "name", "message", "is_about"),
    [
        ("question_backlog", "x", "", True),
        ("investigation_failed", "x", "", True),
        ("curiosity.queue", "x", "", True),
        ("hypothesis_untested", "x", "", True),
        ("anything", "q-0a1b2c3d", "", True),
        ("journal_errors", "kloros-curiosity-core-consumer.service: e", "cannot ask question q-0a1b2c3d", True),
        ("journal_errors", "kloros-investigation-consumer.service: investigation_failed", "", True),
        ("journal_errors", "kloros-semantic-dedup-consumer.service: x", "Q_CURIOSITY_HIGH was refused", True),
        ("journal_errors", "kloros-action-consumer.service: dead_letter for q-<hex>", "", True),
        ("journal_errors", "kloros-investigation-consumer.service: cycle_failed", "cycle_failed", False),
        ("journal_errors", "kloros-investigation-consumer.service: state_not_saved", "disk full", False),
        ("journal_errors", "quiz.service: no such question q-0a1b2c3d", "question", False),
        ("unit_unhealthy", "kloros-investigation-consumer.service", "", False),
        ("daemon_silent", "curiosity_core_consumer_daemon", "", False),
        ("cycles_failing", "investigation_consumer_daemon", "", False),
        ("unit_unhealthy", "question-server.service", "", False),
        ("unquestionable", "x", "", False),
    ],
)
def test_nothing_about_the_questions(gap_type: str, name: str, message: str, is_about: bool) -> None:
    assert is_about_questions(gap_type, name, {"message": message}) is is_about
