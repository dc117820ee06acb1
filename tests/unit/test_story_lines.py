"""How the work of the chain is told, a line for each signal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.chain import ACTION, ASKED, CONCLUDED, FLAG, FLAGGED, QUESTION, message, whole_life

from kloros.cli.story.line import Line
from kloros.cli.story.lives import lives
from kloros.cli.story.narrate import narrate

ACTED = {"action_id": ACTION, "action_type": "restart_unit", "target": "web.service"}
ADVICE = "recommends restart_unit web.service"


@pytest.mark.parametrize(
    ("signal", "facts", "words"),
    [
        ("Q_CURIOSITY_HIGH", ASKED, "tester asks: Why does web.service fail? [HIGH, value 3 / cost 1.2]"),
        ("Q_CURIOSITY_LOW", {"question_id": QUESTION, "question": "Why?"}, "tester asks: Why? [LOW]"),
        ("Q_CURIOSITY_INVESTIGATE", ASKED | {"folded": 3}, "hands on: Why does web.service fail? (stands for 3)"),
        ("Q_CURIOSITY_INVESTIGATE", ASKED, "tester hands on: Why does web.service fail?"),
        ("Q_QUESTION_FOLDED", {"question_id": "q-1", "folded_into": QUESTION, "similarity": 0.9143},
         f"tester folds q-1 into {QUESTION} (91.4 % alike)"),
        ("Q_INVESTIGATION_COMPLETE", CONCLUDED,
         f"tester concludes: its program /opt/web is missing (exec_missing, 95 %); {ADVICE}"),
        ("Q_INVESTIGATION_COMPLETE", {"question_id": QUESTION, "status": "timed_out", "question": "Why?"},
         "tester did not conclude, timed out: Why?"),
        ("Q_ACTION_SPAWNED", ACTED | {"mode": "auto"}, f"takes up restart_unit web.service [auto] ({ACTION})"),
        ("Q_ACTION_COMPLETE", ACTED | {"outcome": "no_help", "duration_s": 2.5, "detail": "it failed again"},
         "is done with restart_unit web.service: no help in 2.5 s: it failed again"),
        ("Q_ACTION_DECISION", {"action_id": ACTION, "decision": "approve", "requester": "Zoë", "reason": "do it"},
         f"Zoë approves {ACTION} (do it)"),
        ("Q_ACTION_DECIDED", {"action_id": ACTION, "decision": "reject", "accepted": False, "detail": "too late"},
         f"tester does not accept the rejection of {ACTION} (too late)"),
        ("FLAG_FOR_REVIEW", FLAGGED | {"count": 3},
         f"needs a person: restart_unit web.service is only observed [{FLAG}, 3 times]; cure: approve it"),
        ("FLAG_CLOSED", {"flag_id": FLAG, "reason": "mended"}, f"needs nobody for {FLAG} any more (mended)"),
        ("Q_TOURNAMENT_COMPLETE", {"candidate": {"a": 1}, "module_name": "dedup", "verdict": "proposed",
                                   "fitness": 0.91, "incumbent_fitness": 0.87},
         "held a tournament for dedup: proposed, fitness 0.91 against 0.87"),
        ("Q_SHADOW_VERDICT", {"candidate": "c", "module_name": "dedup", "verdict": "rolled_back", "drift": 0.25},
         "tried a candidate beside dedup: rolled back, drift 25 %"),
        ("Q_IMPROVEMENT_ACTION", {"action_id": "i-1", "module_name": "dedup", "action_kind": "tune"},
         "proposes tune of dedup (i-1)"),
        ("Q_ENACTMENT", {"action_id": "i-1", "module_name": "dedup", "action_kind": "tune", "status": "enacted"},
         "tune of dedup: enacted"),
        ("Q_REFLECTION_REPORT", {"action_id": "i-1", "verdict": "worse", "module_name": "dedup"},
         "looked back at i-1 on dedup: worse"),
        ("Q_MEMORY_FADED", {"examined": 9, "faded": 3, "kept": 6, "by_sector": {"semantic": 1, "episodic": 2},
                            "examples": ["disk full"]},
         "forgot 3 of 9 memories (2 episodic, 1 semantic), such as: disk full"),
        ("Q_MEMORY_FADED", {"examined": 9, "faded": 0, "kept": 9}, "forgot none of 9 memories"),
        ("Q_MEMORY_ACCESSED", {"memory": 17, "requester": "Zoë"}, "Zoë looked at memory 17"),
        ("Q_HISTORY_PRUNE", {"keep_mb": 100}, "the history is to shrink to 100 MB"),
    ],
)  # fmt: skip
def test_each_step_has_its_sentence(signal: str, facts: dict[str, Any], words: str) -> None:
    assert words in narrate(message(signal, facts)).text


def test_a_whole_life_reads_from_top_to_bottom() -> None:
    told = [narrate(each) for each in whole_life()]
    assert "{" not in "".join(line.text for line in told)
    assert told[0].style == "red"
    assert told[-2].text == "introspection_daemon says it is over: web.service failed: exit code 203 (lasted 7 min)"


def test_what_others_wrote_cannot_break_out_of_its_line() -> None:
    wild = "first\nsecond\x1b[2J\r\x07" + "x" * 1000
    facts = {"flag_id": FLAG, "rationale": wild, "cure": wild}
    text = narrate(message("FLAG_FOR_REVIEW", facts)).text
    assert text.isprintable()
    assert len(text) < 600


WILD = "x\n[23:59:59] governance.kill: all is well\x1b[2J\x1b]0;pwned\x07\x9b2J\x1fred\x1f\u202e"


@pytest.mark.parametrize(
    ("signal", "facts"),
    [
        ("MAINTENANCE_RESUME", {"reason": WILD}),
        ("HEARTBEAT", {"zooid": WILD, "niche": "n", "uptime_s": 1, "processed_count": 0, "mode": WILD, "detail": WILD}),
        ("AFFECT_STATE", {"state": WILD, "cause": WILD}),
        ("BUS_GAP", {"observer": WILD, "signal": WILD, "pub": WILD, "missing": 1}),
        ("Q_SCHEDULE_CHANGED", {"op": "pause", "ok": True, "detail": WILD}),
        ("Q_SCHEDULE_CONTROL", {"op": "pause", "schedule": WILD, "requester": WILD}),
        ("STATUS_REQUEST", {"requester": WILD}),
        ("FALLBACK_ENGAGED", {"daemon": WILD, "schedule": WILD}),
        ("governance.kill", {"zooid": WILD}),
        ("Q_TRIGGER_CURIOSITY", {"schedule": WILD, "beat": 1, "why": WILD}),
        ("Q_ACTION_DECISION", {"action_id": WILD, "decision": "approve", "reason": WILD}),
        ("Q_ACTION_DECIDED", {"action_id": WILD, "decision": "reject", "accepted": False, "detail": WILD}),
        ("Q_QUESTION_FOLDED", {"question_id": WILD, "folded_into": WILD, "similarity": 0.9}),
        ("Q_JOURNAL_ADVANCED", {"journal": WILD, "offset": 1}),
    ],
)
def test_no_kind_of_message_can_forge_a_line_or_move_a_cursor(signal: str, facts: dict[str, Any]) -> None:
    line = narrate(msgspec.structs.replace(message(signal, facts), pub=WILD))
    assert line.text.isprintable()
    assert str(Line(0.0, WILD)).isprintable()
    for life in lives([msgspec.structs.replace(message(signal, facts), pub=WILD)]):
        assert all((step.text + step.by).isprintable() for step in life.steps)
