"""What messages say of maintenance mode, as the register takes it."""

from __future__ import annotations

from kloros.chembus.envelope import Message
from kloros.chembus.facts import ResumeFacts, SuspendFacts, TickFacts
from kloros.daemon.maintenance import Maintenance
from kloros.units import seconds_to_us


def of_signal(message: Message) -> Maintenance:
    """MAINTENANCE_SUSPEND and MAINTENANCE_RESUME: a change made when the message was emitted."""
    facts: SuspendFacts | ResumeFacts = message.facts
    until_ts = facts.until_ts if isinstance(facts, SuspendFacts) else None
    return Maintenance(
        suspended=isinstance(facts, SuspendFacts),
        changed_us=seconds_to_us(message.ts),
        until_us=_us(until_ts),
        reason=facts.reason or "",
    )


def of_tick(tick: TickFacts) -> Maintenance:
    """Q_SCHEDULE_TICK: the change that the scheduler knows of, made when it says."""
    return Maintenance(
        suspended=tick.maintenance,
        changed_us=_us(tick.maintenance_changed_ts) or 0,
        until_us=_us(tick.maintenance_until_ts),
        reason=tick.maintenance_reason or "",
    )


def _us(moment_ts: float | None) -> int | None:
    return None if moment_ts is None else seconds_to_us(moment_ts)
