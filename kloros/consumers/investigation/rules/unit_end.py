"""How a unit that was running came to its end. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kloros.consumers.investigation.evidence import Evidence, lasting, several, size
from kloros.consumers.investigation.rule import Rule, Told, filled
from kloros.consumers.investigation.rules.helps import (
    TOO_OFTEN,
    Helper,
    if_it_passes,
    if_it_worked,
    once,
    raise_limit,
    start_again,
    when,
)

_CRASHES = ("SEGV", "ABRT", "BUS", "ILL", "FPE", "TRAP", "SYS")
_BY_HAND = ("KILL", "TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "PIPE", "ALRM")


def _nothing(_: Evidence) -> None:
    return None


def result(*results: str) -> Callable[[Evidence], bool]:
    """Whether systemd calls it so."""
    return lambda evidence: evidence.holds("is_unwell") and evidence.text("result") in results


def trouble(*kinds: str) -> Callable[[Evidence], bool]:
    """Whether a unit that is unwell named one of these troubles itself."""
    return lambda evidence: evidence.holds("is_unwell") and evidence.text("trouble") in kinds


def limited(told: Told) -> Callable[[Evidence], str]:
    """The same, with how often it was tried when systemd has given it up."""

    def sentence(evidence: Evidence) -> str:
        text = filled(told, evidence)
        return f"{_how_it_gave_up(evidence)} {text}" if _gave_up(evidence) else text

    return sentence


def _gave_up(evidence: Evidence) -> bool:
    return evidence.holds("gave_up") or evidence.text("result") == "start-limit-hit"


def _how_it_gave_up(evidence: Evidence) -> str:
    burst, interval_s = evidence.count("start_burst"), evidence.number("start_interval_s")
    often = f"{burst} times in {lasting(interval_s)}" if burst and interval_s else "too often"
    return f"{evidence.text('unit')} was started {often} and given up by systemd."


def _is_oom(evidence: Evidence) -> bool:
    if not evidence.holds("is_unwell"):
        return False
    full = evidence.holds("memory_was_full") and (evidence.text("signal") == "KILL" or evidence.holds("kills"))
    return evidence.text("result") == "oom-kill" or evidence.holds("oom") or full


def _oom(evidence: Evidence) -> str:
    who, limit, peak = evidence.text("unit"), evidence.number("memory_max"), evidence.number("memory_peak")
    if evidence.text("active_state") == "active":
        name = evidence.text("oom_process")
        who = f"A process of {who} ({name})" if name else f"A process of {who}"
    if limit and evidence.text("oom_scope") != "machine":
        had = f", of which it used {size(peak)} at its peak" if peak else ""
        return f"{who} was killed because it needed more memory than it may have: MemoryMax= is {size(limit)}{had}."
    return f"{who} was killed by the kernel because the machine had no memory left."


def _is_start_time_out(evidence: Evidence) -> bool:
    return result("timeout")(evidence) and evidence.text("timed_out") != "stop"


def _start_time_out(evidence: Evidence) -> str:
    unit, limit_s = evidence.text("unit"), evidence.number("start_timeout_s")
    within = f" within {lasting(limit_s)} (TimeoutStartSec=)" if limit_s else " in time"
    notify = ": it never told systemd that it is ready (Type=notify)" if evidence.text("kind") == "notify" else ""
    return f"{unit} did not start{within}{notify}, and was ended."


def _stop_time_out(evidence: Evidence) -> str:
    unit, limit_s = evidence.text("unit"), evidence.number("stop_timeout_s")
    within = f" within {lasting(limit_s)} (TimeoutStopSec=)" if limit_s else " in time"
    return f"{unit} did not stop{within} when it was asked to, and was killed."


def _watchdog(evidence: Evidence) -> str:
    unit, limit_s = evidence.text("unit"), evidence.number("watchdog_s")
    limit = lasting(limit_s) if limit_s else evidence.text("watchdog_limit") or "so long"
    often = f"; that happened {evidence.count('recent_ends')} times in an hour" if _often(evidence) else ""
    return f"{unit} hung: it did not feed its watchdog for {limit} (WatchdogSec=), and systemd ended it{often}."


def _often(evidence: Evidence) -> bool:
    return evidence.count("recent_ends") >= TOO_OFTEN


def _is_crash(evidence: Evidence) -> bool:
    return result("signal", "core-dump")(evidence) and evidence.text("signal") in _CRASHES


def _crash(evidence: Evidence) -> str:
    unit, signal = evidence.text("unit"), evidence.text("signal")
    what = {"SEGV": "it used memory that is not its own", "ABRT": "it gave itself up (abort)"}.get(
        signal, "a fault in the program"
    )
    often = f", {evidence.count('recent_ends')} times in an hour" if _often(evidence) else ""
    said = f" It said before: {evidence.text('trouble_line')}" if evidence.holds("trouble_line") else ""
    return f"{unit} crashed with signal {signal}{often}: {what}.{said}"


def _kills(evidence: Evidence) -> Counter[str]:
    return Counter(name for name in evidence.names("kills") if name in _BY_HAND)


def _is_killed_again(evidence: Evidence) -> bool:
    kills = _kills(evidence)
    return evidence.holds("is_unwell") and sum(kills.values()) >= TOO_OFTEN


def _killed_again(evidence: Evidence) -> str:
    kills = _kills(evidence)
    signal, count = kills.most_common(1)[0]
    ours = " (a daemon of KLoROS itself)" if evidence.text("unit").startswith("kloros-") else ""
    again = " systemd starts it again each time." if evidence.text("active_state") == "active" else ""
    return (
        f"{evidence.text('unit')}{ours} is killed again and again: {count} times in an hour by SIG{signal}, "
        f"{_by_whom(evidence)}.{again}"
    )


def _by_whom(evidence: Evidence) -> str:
    if evidence.holds("sent"):
        return "sent through systemd (systemctl kill)"
    return "from outside of it; by whom is not recorded"


def _killed(evidence: Evidence) -> str:
    signal = evidence.text("signal")
    perhaps = ""
    if signal == "KILL" and evidence.holds("memory_max") and not evidence.holds("sent") and evidence.lacks:
        limit = size(evidence.number("memory_max"))
        perhaps = f" It may have been for want of memory: it has MemoryMax={limit}, and its use could not be seen."
    return f"{evidence.text('unit')} was killed by SIG{signal}, {_by_whom(evidence)}.{perhaps}"


def _is_dependency(evidence: Evidence) -> bool:
    return evidence.holds("is_unwell") and (
        evidence.text("result") == "dependency"
        or evidence.holds("dependency_failed")
        or (evidence.holds("failed_dependencies") and not evidence.holds("code"))
    )


def _dependency(evidence: Evidence) -> str:
    failed = evidence.names("failed_dependencies") or evidence.names("absent_dependencies")
    unit = evidence.text("unit")
    if not failed:
        return f"{unit} was not started because something that it needs had failed; that is active now."
    reason = f": {evidence.text('dependency_reason')}" if evidence.holds("dependency_reason") else "."
    return f"{unit} was not started because {several(failed)}, which it needs, failed{reason}"


def _dependency_is_back(evidence: Evidence) -> bool:
    return not evidence.names("failed_dependencies") and not evidence.names("absent_dependencies")


def _exit(evidence: Evidence) -> str:
    said = evidence.text("trouble_line") or evidence.text("own_line")
    control = evidence.text("failed_command") or "a command beside its program"
    what = control if evidence.holds("is_control") else "it"
    line = f"; it said: {said}" if said else ", and said nothing"
    ran_s = evidence.number("longest_run_s")
    before = f" It had run for {lasting(ran_s)} before." if ran_s >= 60 else ""
    return f"{evidence.text('unit')} failed because {what} exited with status {evidence.count('status')}{line}.{before}"


def _runs(evidence: Evidence) -> str:
    restarts = evidence.count("restarts")
    after = f" after {restarts} automatic restarts" if restarts else ""
    return f"{evidence.text('unit')} runs{after}; why it ended before is not to be seen any more."


def _stuck(evidence: Evidence) -> str:
    state, sub = evidence.text("active_state"), evidence.text("sub_state")
    doing = "starting" if state == "activating" else "stopping"
    since = f" for {lasting(evidence.number('in_state_s'))}" if evidence.holds("in_state_s") else ""
    line = f"; it said last: {evidence.text('own_line')}" if evidence.holds("own_line") else ""
    return f"{evidence.text('unit')} has been {doing} ({sub}){since} and does not come to an end of it{line}."


def _rule(
    name: str, matches: Callable[[Evidence], bool], says: Told, confidence: float, *, action: Helper = _nothing,
    cure: Told = "",
) -> Rule:  # fmt: skip
    return Rule(name, matches, limited(says), confidence, action, cure)


UNIT_END = (
    _rule(
        "oom_kill", _is_oom, _oom, 0.95,
        action=lambda e: raise_limit("MemoryMax")(e) if e.holds("memory_max") and e.text("oom_scope") != "machine"
        else None,
        cure=lambda e: "Find out why it needs so much, or raise MemoryMax=." if e.holds("memory_max")
        else "Give the machine more memory, or the largest programs a MemoryMax=.",
    ),
    _rule(
        "watchdog", result("watchdog"), _watchdog, 0.95, action=once,
        cure="Find out what it waited for (a stack trace, before it is ended); raise WatchdogSec= if it is only slow.",
    ),
    _rule(
        "stop_timeout", lambda e: result("timeout")(e) and e.text("timed_out") == "stop", _stop_time_out, 0.93,
        cure="Let it end on SIGTERM, or raise TimeoutStopSec=; systemctl reset-failed {unit} clears the mark.",
    ),
    _rule(
        "start_timeout", _is_start_time_out, _start_time_out, 0.93, action=if_it_worked,
        cure="See what it waits for; raise TimeoutStartSec= if it is only slow; Type=notify needs sd_notify(READY=1).",
    ),
    _rule(
        "crash", lambda e: _is_crash(e) and not (e.text("signal") == "ABRT" and e.holds("trouble")), _crash, 0.92,
        action=once, cure="coredumpctl info {unit}, where cores are kept; report it to those who make the program.",
    ),
    _rule(
        "killed_again", _is_killed_again, _killed_again, 0.92,
        cure="Find out who sends it (auditctl -a always,exit -S kill), and stop that.",
    ),
    _rule(
        "killed", lambda e: result("signal")(e) and e.text("signal") in _BY_HAND, _killed, 0.85, action=once,
        cure="Find out who sent it, if it comes again.",
    ),
    _rule(
        "dependency_failed", _is_dependency, _dependency, 0.93,
        action=lambda e: start_again(e, "what it needs is active again") if _dependency_is_back(e) else None,
        cure="Mend what it needs first; then start {unit}.",
    ),
    _rule(
        "resources", result("resources"), "{unit} was not started: systemd lacked what it needs to start it.", 0.8,
        action=if_it_worked, cure="journalctl -u {unit} names it: a PID file, a socket, memory, or a directory.",
    ),
    _rule(
        "protocol", result("protocol"),
        "{unit} ended in a way that its Type={kind} does not allow, for instance before it said that it is ready.", 0.8,
        cure="See that Type= fits how the program starts.",
    ),
)  # fmt: skip


def _generic(evidence: Evidence) -> bool:
    return evidence.holds("is_unwell") and (result("exit-code", "signal", "core-dump", "start-limit-hit")(evidence))


UNIT_EXIT = (
    Rule(
        "start_limit_hit", lambda e: _generic(e) and _gave_up(e), limited(_exit), 0.85, action=if_it_passes,
        cure="Mend the reason, then systemctl reset-failed {unit} and start it.",
    ),
    Rule(
        "exit_code", lambda e: _generic(e) and e.holds("code"), _exit, 0.7, action=if_it_passes,
        cure="Its own log, and what changed lately, should tell more.",
    ),
    Rule(
        "stuck", lambda e: e.holds("is_unwell") and e.text("active_state") in ("activating", "deactivating")
        and e.text("sub_state") != "auto-restart", _stuck, 0.7,
        cure="See what its process waits for (its stack in /proc/PID/stack, its open connections).",
    ),
    Rule(
        "runs_again", lambda e: e.holds("unit") and e.text("active_state") == "active" and e.holds("problem"),
        _runs, 0.5,
    ),
)  # fmt: skip

port_is_free = when("port_is_free", "its port is free now")
