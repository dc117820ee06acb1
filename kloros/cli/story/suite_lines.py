"""Sentences for what paces and keeps the suite: beats, cycles, hearts, maintenance, losses. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from kloros.cli.story.line import Line, because, publisher
from kloros.cli.units import clock_time, countdown, duration


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
    return Line(message.ts, f"{message.signal}: everything rests{until}{because(facts.reason)}", "bold yellow")


def _resume(message: Message, facts: ResumeFacts) -> Line:
    return Line(message.ts, f"{message.signal}: everything works again{because(facts.reason)}", "bold yellow")


def _kill(message: Message, facts: KillFacts) -> Line:
    return Line(message.ts, f"{message.signal}: {facts.zooid} is to stop handling{because(facts.reason)}", "bold red")


def _gap(message: Message, facts: GapFacts) -> Line:
    source = facts.pub.partition("@")[0]
    text = f"{message.signal}: {facts.observer} missed {facts.missing} {facts.signal} of {source}"
    return Line(message.ts, text, "red")


def _drop(message: Message, facts: DropFacts) -> Line:
    return Line(message.ts, f"{message.signal}: {facts.observer} dropped {facts.dropped} {facts.signal}", "red")


def _affect(message: Message, facts: AffectFacts) -> Line:
    if message.signal == "AFFECT_STATE":
        mood = facts.state.get("mood", "unknown") if isinstance(facts.state, dict) else facts.state
        return Line(message.ts, f"{message.signal}: {mood or 'unknown'}{because(facts.cause)}", "dim")
    if message.signal == "AFFECT_STATE_CHANGE":
        return Line(message.ts, f"{message.signal}: now {facts.state or 'unknown'}{because(facts.cause)}", "cyan")
    span = "" if facts.ttl_s is None else f" for {duration(facts.ttl_s)}"
    by = "" if facts.requester is None else f", injected by {facts.requester}"
    style = "bold red" if message.signal == "AFFECT_EMERGENCY_BRAKE" else "yellow"
    return Line(message.ts, f"{message.signal}{span}{by}{because(facts.cause)}", style)


def _asked(message: Message, facts: StatusRequestFacts) -> Line:
    whom = facts.zooid or "everyone"
    return Line(message.ts, f"{message.signal}: {facts.requester or publisher(message)} asks {whom}", "dim")


SUITE_TELLERS: dict[type[Facts], Callable[[Message, Any], Line]] = {
    TriggerFacts: _trigger,
    CycleReportFacts: _cycle,
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
