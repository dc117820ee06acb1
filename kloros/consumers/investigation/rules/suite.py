"""Floods of errors, and ailments of the suite's own daemons and of its bus. Pure."""

from __future__ import annotations

from kloros.chembus.facts_work import RecommendedAction
from kloros.consumers.investigation.evidence import Evidence, lasting
from kloros.consumers.investigation.rule import Rule

_FLOOD_COUNT = 100
_FLOOD_PER_S = 1.0
_FLOOD_AT_LEAST = 30
_FEW_S = 60.0
_DOWN = ("failed", "inactive", "deactivating")


def _is_flood(evidence: Evidence) -> bool:
    if not evidence.holds("is_about_errors"):
        return False
    count, rate = max(evidence.count("error_count"), evidence.count("told_count")), evidence.number("error_rate")
    return count >= _FLOOD_COUNT or (count >= _FLOOD_AT_LEAST and rate >= _FLOOD_PER_S)


def _flood(evidence: Evidence) -> str:
    count = max(evidence.count("error_count"), evidence.count("told_count"))
    span = f" in {lasting(evidence.number('error_span_s'))}" if evidence.holds("error_span_s") else ""
    why = f" It says why: {evidence.text('trouble_line')}" if evidence.holds("trouble_line") else ""
    sample = f" Mostly: {evidence.text('sample')}" if evidence.holds("sample") and not why else ""
    return f"{evidence.text('source')} floods the journal: {count} errors{span}.{why}{sample}"


def _errors(evidence: Evidence) -> str:
    count = evidence.count("error_count")
    said = evidence.text("sample") or evidence.text("template")
    times = f"{count} times in {lasting(evidence.number('error_span_s'))}" if count > 1 else "once"
    return f"{evidence.text('source')} logged an error {times}, which names no cause that is known here: {said}"


def _state_of(evidence: Evidence, role: str) -> str:
    result = f", result {evidence.text(f'{role}_result')}" if evidence.holds(f"{role}_result") else ""
    return f"{evidence.text(f'{role}_state')}{result}"


FLOOD = (
    Rule("error_flood", lambda e: _is_flood(e) and not e.holds("is_unwell"), _flood, 0.9,
         cure="Mend what it complains of; LogRateLimitBurst= bounds what it may write meanwhile."),
    Rule("errors_stopped", lambda e: e.holds("is_about_errors") and e.seen.get("error_count") == 0
         and not e.holds("is_unwell") and not e.holds("trouble"),
         "{source} has not logged such an error any more for a quarter of an hour.", 0.6),
)  # fmt: skip

ERRORS = (
    Rule("errors_logged", lambda e: e.holds("is_about_errors") and e.holds("error_count"), _errors, 0.4,
         cure="Ask those who know the program what the message means."),
)  # fmt: skip


def _ails(evidence: Evidence, *ailments: str) -> bool:
    return evidence.text("ailment") in ailments


def _failing(evidence: Evidence) -> str:
    error = evidence.text("last_error") or "its log tells why"
    bad, cycles = evidence.count("cycles_bad"), evidence.count("cycles")
    return f"{evidence.text('daemon')} fails in its cycles ({bad} of the last {cycles}): {error}"


def _slow(evidence: Evidence) -> str:
    daemon, median = evidence.text("daemon"), lasting(evidence.number("median_s"))
    over, cycles = evidence.count("cycles_over"), evidence.count("cycles")
    why = ""
    if evidence.number("cpu_avg60") >= 20:
        why = f" The CPUs are busy; {evidence.text('busiest')} uses most."
    elif evidence.count("backlog"):
        why = f" It has more to do than it can: {evidence.count('backlog')} wait."
    return f"{daemon} needs longer for a cycle than it may ({over} of the last {cycles}; half take over {median}).{why}"


def _is_scheduler_down(evidence: Evidence) -> bool:
    return _ails(evidence, "fallback_engaged") and evidence.text("scheduler_state") in _DOWN


def _scheduler_down(evidence: Evidence) -> str:
    return (
        f"{evidence.text('daemon')} works on its own clock because the scheduler does not run: "
        f"kloros-scheduler.service is {_state_of(evidence, 'scheduler')}."
    )


def _restart_scheduler(evidence: Evidence) -> RecommendedAction | None:
    if evidence.text("scheduler_state") != "failed":
        return None  # somebody stopped it: that is theirs to decide
    return RecommendedAction(action_type="restart_unit", target="kloros-scheduler.service", why="it failed")


SUITE_FIRST = (
    Rule("scheduler_down", _is_scheduler_down, _scheduler_down, 0.93, _restart_scheduler,
         "systemctl start kloros-scheduler."),
    Rule("scheduler_silent", lambda e: _ails(e, "fallback_engaged") and e.number("scheduler_silent_s") > _FEW_S,
         lambda e: f"{e.text('daemon')} works on its own clock: the scheduler was not heard for "
         f"{lasting(e.number('scheduler_silent_s'))}.", 0.8, cure="kloros doctor; journalctl -u kloros-scheduler."),
    Rule("entry_not_triggered", lambda e: _ails(e, "fallback_engaged") and e.text("scheduler_state") == "active",
         "{daemon} works on its own clock although the scheduler runs: its entry is missing from the schedule, or was "
         "late, or its triggers do not arrive.", 0.6,
         cure="kloros schedule show tells whether it is there; kloros bus watch 'Q_TRIGGER_*' whether it fires."),
    Rule("cycles_failing", lambda e: _ails(e, "cycles_failing") and e.holds("last_error"), _failing, 0.85,
         cure="journalctl -u {unit} KLOROS_EVENT=cycle_failed shows where."),
    Rule("cycles_slow", lambda e: _ails(e, "cycles_slow") and e.holds("cycles"), _slow, 0.8,
         cure="Give the entry a longer interval or its daemon a budget, or find what slows it."),
)  # fmt: skip

SUITE_LAST = (
    Rule("daemon_stopped", lambda e: _ails(e, "daemon_silent") and e.text("active_state") == "inactive",
         "{daemon} is silent because {unit} was stopped, and did not fail.", 0.9, cure="systemctl start {unit}."),
    Rule("daemon_hangs", lambda e: _ails(e, "daemon_silent") and e.text("active_state") == "active"
         and e.number("heard_ago_s") > _FEW_S / 2,
         "{daemon} is not heard although {unit} runs: it hangs, or has lost the bus.", 0.75,
         lambda e: RecommendedAction(action_type="restart_unit", target=e.text("unit"), why="it runs and is not heard"),
         "journalctl -u {unit}; kloros status."),
    Rule("daemon_back", lambda e: _ails(e, "daemon_silent") and e.text("active_state") == "active"
         and "heard_ago_s" in e.seen, "{daemon} is heard again.", 0.7),
    Rule("proxy_down", lambda e: _ails(e, "bus_silent", "bus_gap", "bus_drop") and e.text("proxy_state") in _DOWN,
         lambda e: f"The bus is down: {e.text('proxy_unit')} is {_state_of(e, 'proxy')}.", 0.92,
         lambda e: RecommendedAction(action_type="restart_unit", target=e.text("proxy_unit"), why="it failed")
         if e.text("proxy_state") == "failed" else None, "systemctl start {proxy_unit}."),
    Rule("proxy_restarted", lambda e: _ails(e, "bus_gap", "bus_silent") and 0 < e.number("proxy_since_s") < 900
         and e.text("proxy_state") == "active",
         lambda e: f"The bus was restarted {lasting(e.number('proxy_since_s'))} ago; what passed meanwhile was missed.",
         0.75),
    Rule("observer_restarted", lambda e: _ails(e, "bus_gap", "bus_drop") and 0 < e.number("observer_since_s") < 900
         and e.text("observer_state") == "active",
         lambda e: f"{e.text('observer')} was restarted {lasting(e.number('observer_since_s'))} ago and missed what "
         f"passed meanwhile.", 0.65),
    Rule("slow_reader", lambda e: _ails(e, "bus_drop"),
         "{observer} reads {signal_name} more slowly than it is sent, and its queue overflowed.", 0.7,
         cure="See what keeps it busy (kloros status); raise queue_messages in kloros.toml if it is only bursts."),
    Rule("lost_on_the_way", lambda e: _ails(e, "bus_gap") and e.holds("observer"),
         "{observer} missed messages of {signal_name}; neither it nor the bus was restarted lately, so a queue on the "
         "way was full.", 0.5, cure="kloros bus hz tells who sends how much."),
    Rule("source_missing", lambda e: _ails(e, "scanner_blind") and e.text("needed_state") in _DOWN,
         "{name} cannot be watched because {needed} is {needed_state}.", 0.9, cure="systemctl start {needed}."),
    Rule("cannot_watch", lambda e: _ails(e, "scanner_blind") and e.holds("reason"),
         "{name} cannot be watched: {reason}.", 0.7, cure="kloros doctor names the cure for what is missing."),
    Rule("too_many_findings", lambda e: _ails(e, "introspection_overflow"),
         "More findings are open than can be kept: something makes very many of them.", 0.6,
         cure="kloros bus history --signal CAPABILITY_GAP shows of what kind they are."),
)  # fmt: skip
