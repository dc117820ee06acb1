"""AFFECT_STATE as others read it: the mood and its sides, what holds and until when, what cannot be perceived. Pure."""

from __future__ import annotations

from typing import Any

from kloros.affect.appraisal import signal_of
from kloros.affect.state import AffectState, Vitals


def portrait(
    state: AffectState, vitals: Vitals, by_hand: dict[str, dict[str, Any]], wall_s: float, ttl_s: float
) -> dict[str, Any]:
    """The facts' `state`. wall_s: epoch seconds at the moment of the appraisal, `state.at_s`.
    by_hand: signals that somebody else injected, as `holds` shows them."""

    def ts(moment_s: float | None) -> float | None:
        return None if moment_s is None or state.at_s is None else round(wall_s - (state.at_s - moment_s), 3)

    holds = {
        signal_of(name): {
            "cause": hold.cause,
            "evidence": hold.evidence,
            "since_ts": ts(hold.since_s),
            "until_ts": round(wall_s + ttl_s, 3),
        }
        for name, hold in state.holds.items()
        if hold.holds
    }
    return {
        "mood": state.mood,
        "since_ts": ts(state.mood_since_s),
        "as_of_ts": round(wall_s, 3),
        "dimensions": {
            name: {"value": round(each.value, 3), "cause": each.cause} for name, each in state.dimensions.items()
        },
        "holds": holds,
        "by_hand": by_hand,
        "blind": vitals.blind,
    }
