"""How a unit is, and whether it is well again. Shared by the kinds that do something to units."""

from __future__ import annotations

from kloros.consumers.action.action import Action, State
from kloros.consumers.action.kinds.base import NOT_YET, Hand, Judgement, Tools, Unfit
from kloros.machine.unit_state import UnitState, read_unit

# A job of systemd's that nobody waits for any more.
_NO_JOB = 0


def read(tools: Tools, name: str) -> UnitState:
    """Raises Unfit when there is no such unit, CannotObserve when nobody can tell."""
    unit = read_unit(tools.systemd, name)
    if unit is None or unit.text("LoadState") != "loaded":
        state = "not a unit" if unit is None else unit.text("LoadState") or "unknown"
        raise Unfit(f"{name} cannot be started: it is {state}")
    return unit


def seen(unit: UnitState) -> State:
    """What is remembered of it."""
    invocation = unit.unit.get("InvocationID", b"")
    return {
        "active": unit.text("ActiveState"),
        "result": unit.text("Result"),
        "restarts": unit.number("NRestarts") or 0,
        "invocation": bytes(invocation).hex(),
        "is_oneshot": unit.text("Type") == "oneshot",
    }


def look(tools: Tools, action: Action) -> State:
    """How the unit is now; empty when it has gone."""
    try:
        return seen(read(tools, action.target))
    except Unfit:
        return {}


def wait_for_job(tools: Tools, action: Action, hand: Hand, timeout_s: float) -> None:
    """Wait until systemd has done what it was asked for. Raises TooSlow, Interrupted."""

    def is_done() -> bool:
        unit = read_unit(tools.systemd, action.target)
        job = (0, "") if unit is None else unit.unit.get("Job", (0, ""))
        return job[0] == _NO_JOB

    hand.wait_until(is_done, timeout_s, f"{action.target} was not up")


def judge(now: State, after: State, elapsed_s: float, settle_s: float) -> Judgement:
    """Whether a unit that was brought up stays up, for `settle_s` and without being restarted. Pure."""
    if not now:
        return Judgement(False, "the unit is gone")
    if now["active"] == "failed":
        return Judgement(False, f"it failed again ({now['result'] or 'unknown'})")
    if now["active"] == "inactive":
        if now["is_oneshot"] and now["result"] == "success":
            return Judgement(True, "it ran to its good end")
        return Judgement(False, f"it is not running ({now['result'] or 'stopped'})")
    was_up = after.get("active") == "active"
    if int(now["restarts"]) > int(after.get("restarts", 0)):
        return Judgement(False, "it was restarted again")
    if was_up and now["invocation"] != after.get("invocation"):
        return Judgement(False, "it was started anew")
    if elapsed_s < settle_s:
        return NOT_YET
    if now["active"] == "active":
        return Judgement(True, f"it is up, and stayed up for {elapsed_s:.0f} s")
    return Judgement(False, f"it is still {now['active']}")
