"""What became of each breakage, from what was heard on the bus. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.systemd.breakages.base import Breakage, Ends

Message = Mapping[str, Any]
ASKED = tuple(f"Q_CURIOSITY_{level}" for level in ("CRITICAL", "HIGH", "MEDIUM", "LOW"))
HEARD = (
    "CAPABILITY_GAP", "CAPABILITY_RESTORED", *ASKED, "Q_CURIOSITY_INVESTIGATE", "Q_QUESTION_FOLDED",
    "Q_INVESTIGATION_COMPLETE", "Q_ACTION_SPAWNED", "Q_ACTION_COMPLETE", "FLAG_FOR_REVIEW", "FLAG_CLOSED",
)  # fmt: skip


@dataclass
class Course:
    """The messages about one finding, oldest first."""

    breakage: Breakage
    messages: list[Message] = field(default_factory=list)

    def of(self, *signals: str) -> list[Mapping[str, Any]]:
        """The facts of these signals."""
        return [message["facts"] for message in self.messages if message["signal"] in signals]

    def ts(self, *signals: str) -> float | None:
        """When one of them was first emitted."""
        return next((float(message["ts"]) for message in self.messages if message["signal"] in signals), None)

    @property
    def questions(self) -> list[str]:
        return [facts["question_id"] for facts in self.of(*ASKED)]

    @property
    def concluded(self) -> Mapping[str, Any] | None:
        """The first conclusion."""
        ends = [facts for facts in self.of("Q_INVESTIGATION_COMPLETE") if facts["status"] != "withdrawn"]
        return ends[0] if ends else None

    @property
    def outcomes(self) -> list[str]:
        return [facts["outcome"] for facts in self.of("Q_ACTION_COMPLETE")]

    @property
    def is_closed(self) -> bool:
        """Restored, and each flag closed."""
        flags = {facts["flag_id"] for facts in self.of("FLAG_FOR_REVIEW")}
        return bool(self.of("CAPABILITY_RESTORED")) and flags <= {facts["flag_id"] for facts in self.of("FLAG_CLOSED")}

    @property
    def waits_for_approval(self) -> str | None:
        """The action that waits for a person's word."""
        ended = {facts["action_id"] for facts in self.of("Q_ACTION_COMPLETE")}
        waiting = [facts["action_id"] for facts in self.of("Q_ACTION_SPAWNED") if facts.get("mode") == "approve"]
        return next((action_id for action_id in waiting if action_id not in ended), None)

    @property
    def has_ended(self) -> bool:
        """Whether what its table entry calls its end has come."""
        match self.breakage.ends:
            case Ends.HELPED | Ends.APPROVED:
                return "helped" in self.outcomes
            case Ends.NO_HELP:
                return "no_help" in self.outcomes and bool(self.of("FLAG_FOR_REVIEW"))
            case Ends.FLAG:
                return bool(self.of("FLAG_FOR_REVIEW"))

    def complaints(self) -> list[str]:
        """What is not as it should be, from the finding to its end."""
        breakage, said = self.breakage, self.concluded
        if said is None:
            return [f"no conclusion; heard {[message['signal'] for message in self.messages]}"]
        told = [f"asked {len(self.questions)} times"] if len(self.questions) != 1 else []
        if said["status"] != "concluded":
            told.append(f"the investigation is {said['status']}")
        if not re.search(breakage.concluded, said.get("conclusion") or ""):
            told.append(f"concluded {said.get('conclusion')!r}, not {breakage.concluded!r}")
        told += [f"no evidence {each!r}" for each in breakage.evidence if not self._has_evidence(each)]
        return told + ([] if self.has_ended else [f"did not end in {breakage.ends}: {self.outcomes}"])

    def _has_evidence(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in (self.concluded or {}).get("evidence", ()))


def courses(breakages: Iterable[Breakage], heard: Sequence[Message]) -> dict[str, Course]:
    """What was heard of each, by its kind. A gap has one id for as long as it lasts."""
    found = {breakage.kind: Course(breakage) for breakage in breakages}
    of_gap: dict[str, Course] = {}
    for message in sorted(heard, key=lambda message: float(message["ts"])):
        facts = message["facts"]
        gap_id = facts.get("gap_id")
        if message["signal"] == "CAPABILITY_GAP" and gap_id not in of_gap:
            for course in found.values():
                breakage = course.breakage
                if facts["gap_type"] == breakage.gap_type and facts["gap_name"].startswith(breakage.gap_name):
                    of_gap[gap_id] = course
        if gap_id in of_gap:
            of_gap[gap_id].messages.append(message)
    return found


def others(breakages: Iterable[Breakage], heard: Sequence[Message]) -> list[tuple[str, str]]:
    """(type, name) of findings that belong to none of them."""
    known = {id(message) for course in courses(breakages, heard).values() for message in course.messages}
    gaps = [message for message in heard if message["signal"] == "CAPABILITY_GAP" and id(message) not in known]
    return [(gap["facts"]["gap_type"], gap["facts"]["gap_name"]) for gap in gaps]
