"""One finding's whole life, as the daemons tell it: from the scan to the outcome."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from kloros.chembus.envelope import Message, codec_for
from kloros.chembus.vocabulary import VOCABULARY
from kloros.storage.database import Database
from kloros.storage.history_rows import Row, zooid_of
from kloros.storage.history_store import HISTORY_TABLES, HistoryStore

GAP, QUESTION, ACTION, FLAG = "4fe13b0c9a7d2e15", "q-1a2b3c4d", "a-5e6f7a8b", "f-9c0d1e2f"
TS = 1_763_000_000.0
ABOUT: dict[str, Any] = {"gap_id": GAP, "gap_type": "unit_unhealthy", "gap_name": "web.service", "severity": "high"}
FOUND = {**ABOUT, "detail": "web.service failed: exit code 203", "change": "opened", "evidence": ["exit=203"]}
ASKED = {
    **ABOUT,
    "question_id": QUESTION,
    "question": "Why does web.service fail?",
    "priority": "HIGH",
    "value_estimate": 3.0,
    "cost_estimate": 1.2,
    "evidence": ["exit=203"],
}
CONCLUDED = {
    **ABOUT,
    "question_id": QUESTION,
    "status": "concluded",
    "conclusion": "its program /opt/web is missing",
    "rule": "exec_missing",
    "confidence": 0.95,
    "evidence": ["ExecStart=/opt/web", "203/EXEC"],
    "recommended_action": {"action_type": "restart_unit", "target": "web.service", "why": "it is back now"},
    "duration_ms": 1200.0,
}
ACTED = {"action_id": ACTION, "action_type": "restart_unit", "target": "web.service", "question_id": QUESTION}
DECIDED = {"action_id": ACTION, "decision": "approve", "requester": "Zoë"}
FLAGGED = {
    "flag_id": FLAG,
    "rationale": "restart_unit web.service is only observed",
    "gap_id": GAP,
    "action_id": ACTION,
    "severity": "high",
    "cure": "approve it, or restart it yourself",
}

CHAIN: tuple[tuple[float, str, str, dict[str, Any]], ...] = (
    (0, "CAPABILITY_GAP", "introspection_daemon", FOUND),
    (50, "Q_CURIOSITY_HIGH", "curiosity_core_consumer_daemon", ASKED),
    (
        55,
        "Q_QUESTION_FOLDED",
        "semantic_dedup_consumer_daemon",
        {"question_id": "q-00000001", "folded_into": QUESTION, "similarity": 0.91, "gap_id": "another"},
    ),
    (55, "Q_CURIOSITY_INVESTIGATE", "semantic_dedup_consumer_daemon", {**ASKED, "folded": 2}),
    (200, "Q_INVESTIGATION_COMPLETE", "investigation_consumer_daemon", CONCLUDED),
    (300, "Q_ACTION_SPAWNED", "action_consumer_daemon", {**ACTED, "mode": "approve", "gap_id": GAP}),
    (300, "FLAG_FOR_REVIEW", "action_consumer_daemon", FLAGGED),
    (400, "Q_ACTION_DECIDED", "action_consumer_daemon", {**DECIDED, "accepted": True}),
    (
        410,
        "Q_ACTION_COMPLETE",
        "action_consumer_daemon",
        {**ACTED, "mode": "approve", "outcome": "helped", "verified": True, "gap_id": GAP, "duration_s": 2.5},
    ),
    (415, "CAPABILITY_RESTORED", "introspection_daemon", {**FOUND, "change": "restored", "duration_s": 415.0}),
    (416, "FLAG_CLOSED", "action_consumer_daemon", {"flag_id": FLAG, "reason": "the finding ended", "gap_id": GAP}),
)
"""(seconds since it was found, signal, who emits it, facts)"""


def message(
    signal: str, facts: dict[str, Any], ts: float = TS, pub: str = "tester", incident_id: str | None = None
) -> Message:
    """A message with typed facts."""
    shape = VOCABULARY.lookup(signal).facts
    incident_id = incident_id or facts.get("gap_id")
    return codec_for(shape).message_type(
        signal=signal,
        ecosystem="tests",
        facts=msgspec.convert(facts, shape),
        ts=ts,
        incident_id=incident_id,
        id=f"{signal}.{ts}",
        pub=f"{pub}@boot.1.x",
        seq=1,
    )


def whole_life(since_ts: float = TS) -> list[Message]:
    """CHAIN as messages."""
    return [
        message(signal, facts, since_ts + after_s, pub, facts.get("gap_id", GAP))
        for after_s, signal, pub, facts in CHAIN
    ]


def write_history(path: Path, messages: Iterable[Message]) -> None:
    """A history file with these in it, as the historian writes it."""
    rows = [
        Row(round(m.ts * 1e6), m.signal, zooid_of(m.pub), m.pub, m.incident_id, codec_for(type(m.facts)).encode(m), 1)
        for m in messages
    ]
    database = Database(path, HISTORY_TABLES)
    HistoryStore(lambda: database).add(rows)
    database.close()
