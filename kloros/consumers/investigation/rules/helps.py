"""Which recommended actions there are, and when one can help. Pure.

Nothing is recommended that would only fail again in the same way: a restart needs a sign that the cause is over, or
passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kloros.chembus.facts_work import RecommendedAction
from kloros.consumers.investigation.evidence import Evidence

Helper: TypeAlias = Callable[[Evidence], RecommendedAction | None]

# A unit that has run for so long before worked; it did not fail by its very nature.
WORKED_FOR_S = 60.0
# Who died so often in an hour dies again.
TOO_OFTEN = 3
_PAUSE_S = 600
_FACTOR = "1.5"
_MIB = 1 << 20


def start_again(evidence: Evidence, why: str) -> RecommendedAction | None:
    """Start a unit that is down; one that systemd has given up is let off first. None for one that runs, or starts."""
    unit = evidence.text("unit")
    if evidence.text("active_state") in ("active", "activating", "reloading") or not unit:
        return None
    if evidence.holds("gave_up") or evidence.text("result") == "start-limit-hit":
        return RecommendedAction(action_type="reset_failed", target=unit, parameters={"start": "yes"}, why=why)
    return RecommendedAction(action_type="restart_unit", target=unit, why=why)


def if_it_worked(evidence: Evidence) -> RecommendedAction | None:
    """Start it again when it has run well before and does not die again and again."""
    ran_s = evidence.number("longest_run_s")
    if ran_s >= WORKED_FOR_S and evidence.count("recent_ends") < TOO_OFTEN:
        return start_again(evidence, f"it had run for {ran_s:.0f} s before")
    return None


def if_it_passes(evidence: Evidence) -> RecommendedAction | None:
    """Start it again when what it stumbled over may be over by itself, or is; else when it worked before."""
    if evidence.holds("trouble_passes"):
        return start_again(evidence, "what it stumbled over may be over by now")
    if evidence.text("trouble") == "missing_file" and evidence.holds("path_is_there"):
        return start_again(evidence, f"{evidence.text('path')} is there now")
    return if_it_worked(evidence)


def once(evidence: Evidence) -> RecommendedAction | None:
    """Start it again when this happened now and then, not again and again."""
    if len(evidence.names("kills")) >= TOO_OFTEN or evidence.count("recent_ends") >= TOO_OFTEN:
        return None
    return start_again(evidence, "it happened once, which a fresh start mends")


def when(condition: str, why: str) -> Helper:
    """Start it again when a fact says that the cause is over."""
    return lambda evidence: start_again(evidence, why) if evidence.holds(condition) else None


def raise_limit(name: str) -> Helper:
    """Let the unit have half as much again."""
    return lambda evidence: (
        RecommendedAction(
            action_type="raise_limit",
            target=evidence.text("unit"),
            parameters={"property": name, "factor": _FACTOR},
            why=f"it ran into its {name}=",
        )
        if evidence.holds("unit")
        else None
    )


def vacuum_journal(evidence: Evidence) -> RecommendedAction:
    """Let the journal keep half of what it has."""
    keep_mb = max(64, round(evidence.number("journal_bytes") / 2 / _MIB))
    return RecommendedAction(
        action_type="vacuum_journal", target="journal", parameters={"keep_mb": str(keep_mb)}, why="the journal fills it"
    )


def prune_history(evidence: Evidence) -> RecommendedAction:
    """Let our own history keep half of what it has."""
    keep_mb = max(64, round(evidence.number("history_bytes") / 2 / _MIB))
    return RecommendedAction(
        action_type="prune_history", target="chembus_historian", parameters={"keep_mb": str(keep_mb)},
        why="the suite's own history fills it",
    )  # fmt: skip


def pause_entry(evidence: Evidence) -> RecommendedAction | None:
    """Let one of our own daemons rest; None for anybody else's, and for those that must not rest."""
    entry = evidence.text("top_entry")
    if not entry:
        return None
    return RecommendedAction(
        action_type="pause_entry",
        target=entry,
        parameters={"for_s": str(_PAUSE_S)},
        why=f"{entry} is ours and can wait",
    )
