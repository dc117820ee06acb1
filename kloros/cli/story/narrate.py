"""What a message says, in one line for a person; reactions stand indented under what they react to. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.facts import (
    AffectFacts,
    ChangedFacts,
    ControlFacts,
    CycleReportFacts,
    DropFacts,
    Facts,
    FallbackFacts,
    GapFacts,
    HeartbeatFacts,
    KillFacts,
    ResumeFacts,
    StatusRequestFacts,
    SuspendFacts,
    TickFacts,
    TriggerFacts,
)
from kloros.chembus.facts_work import GapFoundFacts
from kloros.cli.units import clock_time, countdown, duration

LONGEST_FACTS = 160
SEVERITY_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "cyan"}


class Line(NamedTuple):
    """One line of the story. `is_reaction` lines belong under an earlier one."""

    ts: float
    text: str
    style: str = ""
    is_reaction: bool = False

    def __str__(self) -> str:
        return f"[{clock_time(self.ts)}] {'  ' if self.is_reaction else ''}{self.text}"


def narrate(message: Message) -> Line:
    """The message as a line."""
    tell = _TELLERS.get(type(message.facts), _anything)
    return tell(message, message.facts)


def publisher(message: Message) -> str:
    """Who emitted it, as far as the message tells."""
    return (message.pub or "an older client").partition("@")[0]


def _trigger(message: Message, facts: TriggerFacts) -> Line:
    notes = []
    if facts.beat is not None:
        notes.append(f"{facts.schedule} beat {facts.beat}")
    elif facts.schedule:
        notes.append(facts.schedule)
    else:
        notes.append(f"by hand, from {publisher(message)}")
    if facts.beat is not None and facts.late_s is not None:
        notes.append(f"{duration(max(facts.late_s, 0.0))} late")
    if facts.missed:
        notes.append(f"{facts.missed} missed before it")
    if facts.why and facts.reason != "misfire":  # how late it is and what was missed say that already
        notes.append(facts.why)
    return Line(message.ts, f"{message.signal} emitted ({', '.join(notes)})", "bold")


def _cycle(message: Message, facts: CycleReportFacts) -> Line:
    asked = {"trigger": "reacted", "injected": "reacted", "fallback": "ran by its own clock"}[facts.source]
    outcome = facts.outcome.replace("_", " ")
    notes = [f"{facts.daemon} {asked}: {outcome} in {duration(facts.duration_s)}, {facts.processed} processed"]
    if facts.backlog:
        notes.append(f"{facts.backlog} waiting")
    if facts.missed:
        notes.append(f"{facts.missed} missed")
    if facts.coalesced:
        notes.append(f"for {facts.coalesced} more triggers too")
    if facts.error:
        notes.append(facts.error)
    style = {"ok": "green", "over_budget": "yellow"}.get(facts.outcome, "red")
    return Line(message.ts, ", ".join(notes), style, is_reaction=True)


def _finding(message: Message, facts: GapFoundFacts) -> Line:
    what = facts.detail or f"{facts.gap_type} {facts.gap_name}"
    if message.signal == "CAPABILITY_RESTORED":
        lasted = "" if facts.duration_s is None else f" (lasted {duration(facts.duration_s)})"
        return Line(message.ts, f"{publisher(message)} says it is over: {what}{lasted}", "green", is_reaction=True)
    verb = "found it worse" if facts.change == "worsened" else "found"
    style = SEVERITY_STYLES.get(facts.severity, "")
    return Line(message.ts, f"{publisher(message)} {verb}: {what} [{facts.severity}]", style, is_reaction=True)


def _tick(message: Message, facts: TickFacts) -> Line:
    notes = [f"{len(facts.entries)} entries"]
    if facts.maintenance:
        notes.append("maintenance")
    else:
        due = {name: entry.next_due_ts for name, entry in facts.entries.items() if entry.next_due_ts is not None}
        if due:
            name = min(due, key=lambda name: due[name])
            notes.append(f"next {name} in {countdown(due[name], message.ts)}")
    if facts.lateness_p99_ms is not None:
        notes.append(f"lateness p99 {duration(facts.lateness_p99_ms / 1e3)}")
    return Line(message.ts, f"{message.signal} ({', '.join(notes)})", "dim")


def _control(message: Message, facts: ControlFacts) -> Line:
    value = "" if facts.value is None else f" {facts.value:g}"
    span = "" if facts.ttl_s is None else f" for {duration(facts.ttl_s)}"
    asked = f"{facts.op} {facts.schedule or ''}".rstrip()
    return Line(message.ts, f"{message.signal}: {asked}{value}{span} (from {facts.requester or publisher(message)})")


def _changed(message: Message, facts: ChangedFacts) -> Line:
    style = "green" if facts.ok else "red"
    if facts.request_id is None and facts.detail:  # its own news: the detail says it all
        about = "" if facts.schedule is None or facts.schedule in facts.detail else f"{facts.schedule}: "
        return Line(message.ts, f"{publisher(message)}: {about}{facts.detail}", style, is_reaction=True)
    about = f"{facts.op} {facts.schedule}" if facts.schedule else facts.op
    detail = f" ({facts.detail})" if facts.detail else ""
    text = f"{publisher(message)}: {about} {'done' if facts.ok else 'refused'}{detail}"
    return Line(message.ts, text, style, is_reaction=True)


def _heartbeat(message: Message, facts: HeartbeatFacts) -> Line:
    if facts.mode == "stopped":
        return Line(message.ts, f"{message.signal} {facts.zooid} says goodbye", "dim")
    notes = [facts.mode or "alive", f"up {duration(facts.uptime_s)}"]
    if facts.backlog:
        notes.append(f"{facts.backlog} waiting")
    if facts.detail:
        notes.append(facts.detail)
    return Line(message.ts, f"{message.signal} {facts.zooid} ({', '.join(notes)})", "dim")


def _fallback(message: Message, facts: FallbackFacts) -> Line:
    silent = "" if facts.silent_s is None else f" after {duration(facts.silent_s)} without a trigger"
    if message.signal == "FALLBACK_ENGAGED":
        text, style = f"{facts.daemon} runs {facts.schedule} by its own clock{silent}", "bold yellow"
    else:
        text, style = f"{facts.daemon} follows the scheduler again", "green"
    return Line(message.ts, f"{message.signal}: {text}", style)


def _suspend(message: Message, facts: SuspendFacts) -> Line:
    until = "" if facts.until_ts is None else f" until {clock_time(facts.until_ts)}"
    return Line(message.ts, f"{message.signal}: everything rests{until}{_because(facts.reason)}", "bold yellow")


def _resume(message: Message, facts: ResumeFacts) -> Line:
    return Line(message.ts, f"{message.signal}: everything works again{_because(facts.reason)}", "bold yellow")


def _kill(message: Message, facts: KillFacts) -> Line:
    return Line(message.ts, f"{message.signal}: {facts.zooid} is to stop handling{_because(facts.reason)}", "bold red")


def _gap(message: Message, facts: GapFacts) -> Line:
    source = facts.pub.partition("@")[0]
    text = f"{message.signal}: {facts.observer} missed {facts.missing} {facts.signal} of {source}"
    return Line(message.ts, text, "red")


def _drop(message: Message, facts: DropFacts) -> Line:
    return Line(message.ts, f"{message.signal}: {facts.observer} dropped {facts.dropped} {facts.signal}", "red")


def _affect(message: Message, facts: AffectFacts) -> Line:
    if message.signal == "AFFECT_STATE":
        mood = facts.state.get("mood", "unknown") if isinstance(facts.state, dict) else facts.state
        return Line(message.ts, f"{message.signal}: {mood or 'unknown'}{_because(facts.cause)}", "dim")
    if message.signal == "AFFECT_STATE_CHANGE":
        return Line(message.ts, f"{message.signal}: now {facts.state or 'unknown'}{_because(facts.cause)}", "cyan")
    span = "" if facts.ttl_s is None else f" for {duration(facts.ttl_s)}"
    by = "" if facts.requester is None else f", injected by {facts.requester}"
    style = "bold red" if message.signal == "AFFECT_EMERGENCY_BRAKE" else "yellow"
    return Line(message.ts, f"{message.signal}{span}{by}{_because(facts.cause)}", style)


def _asked(message: Message, facts: StatusRequestFacts) -> Line:
    whom = facts.zooid or "everyone"
    return Line(message.ts, f"{message.signal}: {facts.requester or publisher(message)} asks {whom}", "dim")


def _anything(message: Message, facts: Any) -> Line:
    shown = msgspec.json.encode(facts).decode()
    if len(shown) > LONGEST_FACTS:
        shown = shown[: LONGEST_FACTS - 3] + "..."
    return Line(message.ts, f"{message.signal} {shown}".removesuffix(" {}"))


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


_TELLERS: dict[type[Facts], Callable[[Message, Any], Line]] = {
    TriggerFacts: _trigger,
    CycleReportFacts: _cycle,
    GapFoundFacts: _finding,
    TickFacts: _tick,
    ControlFacts: _control,
    ChangedFacts: _changed,
    HeartbeatFacts: _heartbeat,
    FallbackFacts: _fallback,
    SuspendFacts: _suspend,
    ResumeFacts: _resume,
    KillFacts: _kill,
    GapFacts: _gap,
    DropFacts: _drop,
    StatusRequestFacts: _asked,
    AffectFacts: _affect,
}
