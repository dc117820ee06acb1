"""What needs a person, folded: the same trouble again raises a count. Pure."""

from __future__ import annotations

import msgspec

from kloros.chembus.facts_work import ReviewFacts
from kloros.consumers.action.action import rank

_STEPS = (1, 2, 5)


class Flag(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One flag. `reason` is one word for why it was raised last; `told_*` is what the bus heard last."""

    flag_id: str
    fingerprint: str
    opened_us: int
    last_us: int
    rationale: str
    reason: str
    count: int = 1
    severity: str | None = None
    gap_id: str | None = None
    name: str | None = None
    action_id: str | None = None
    evidence: list[str] = []
    cure: str | None = None
    told_reason: str = ""
    told_severity: str | None = None
    closed_us: int | None = None
    closed_because: str | None = None

    def facts(self) -> ReviewFacts:
        """As the bus is told of it."""
        return ReviewFacts(
            flag_id=self.flag_id, rationale=self.rationale, module_name=self.name, evidence=self.evidence,
            fingerprint=self.fingerprint, count=self.count, severity=self.severity, gap_id=self.gap_id,  # type: ignore[arg-type]
            action_id=self.action_id, cure=self.cure,
        )  # fmt: skip


def is_step(count: int) -> bool:
    """1, 2, 5, 10, 20, 50, 100, ...: when it is worth saying again that something goes on."""
    while count >= 10 and count % 10 == 0:
        count //= 10
    return count in _STEPS


def must_be_told(flag: Flag) -> bool:
    """Whether the bus should hear of the flag as it is now: its count reached a step, or it is worse, or another."""
    is_worse = flag.told_severity is not None and rank(flag.severity) > rank(flag.told_severity)
    return is_step(flag.count) or is_worse or flag.reason != flag.told_reason
