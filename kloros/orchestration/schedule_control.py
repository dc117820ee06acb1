"""Q_SCHEDULE_CONTROL -> a change of the schedule, or the reason why not. Pure."""

from __future__ import annotations

import math

import msgspec

from kloros.chembus.facts import ControlFacts
from kloros.errors import ScheduleRefused
from kloros.orchestration.schedule import Schedule
from kloros.orchestration.schedule_entry import Beat
from kloros.orchestration.schedule_settings import (
    FASTEST_PACE,
    LONGEST_INTERVAL_S,
    SHORTEST_INTERVAL_S,
    SLOWEST_PACE,
)
from kloros.orchestration.wishes import OPERATOR
from kloros.units import seconds_to_us

LONGEST_TEXT = 200
"""Of a text that a wish brings along; no name of an entry is as long."""


def shortened(wish: ControlFacts) -> ControlFacts:
    """The same wish, with texts that can be shown each second."""
    texts = {"schedule": wish.schedule, "requester": wish.requester, "source": wish.source}
    return msgspec.structs.replace(wish, **{key: text and text[:LONGEST_TEXT] for key, text in texts.items()})


def apply(schedule: Schedule, wish: ControlFacts, now_us: int) -> tuple[str, Beat | None]:
    """Do what is wished (`reload` aside, which needs the file); returns what was done and, for `trigger`, the beat.

    Raises:
        ScheduleRefused: It cannot be done; nothing has changed.
    """
    if wish.schedule is None:
        raise ScheduleRefused(schedule="(none)", reason=f"{wish.op} needs the name of an entry in `schedule`")
    if wish.op == "trigger":
        return "triggered", schedule.trigger(wish.schedule)
    if wish.op == "pause":
        schedule.pause(wish.schedule)
        return "paused", None
    if wish.op == "resume":
        schedule.resume(wish.schedule)
        return "resumed", None
    if wish.op == "set_interval":
        return _set_interval(schedule, wish.schedule, wish, now_us), None
    return _set_pace(schedule, wish.schedule, wish, now_us), None


def _set_interval(schedule: Schedule, name: str, wish: ControlFacts, now_us: int) -> str:
    if wish.value is None:
        schedule.set_interval(name, None, now_us)
        return "back to its own interval"
    interval_s = _within(name, "an interval", wish.value, SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S, " s")
    schedule.set_interval(name, seconds_to_us(interval_s), now_us, _ttl_us(name, wish))
    return f"every {interval_s:g} s{_for_how_long(wish)}"


def _set_pace(schedule: Schedule, name: str, wish: ControlFacts, now_us: int) -> str:
    pace = _within(name, "a pace", 1.0 if wish.value is None else wish.value, SLOWEST_PACE, FASTEST_PACE, "")
    cause = "" if wish.source is None else wish.requester or ""
    schedule.set_pace(name, pace, now_us, _ttl_us(name, wish), wish.source or OPERATOR, cause)
    return "back to pace 1" if pace == 1.0 else f"pace {pace:g}{_for_how_long(wish)}"


def _ttl_us(name: str, wish: ControlFacts) -> int | None:
    if wish.ttl_s is None:
        return None
    return seconds_to_us(_within(name, "ttl_s", wish.ttl_s, SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S, " s"))


def _for_how_long(wish: ControlFacts) -> str:
    return " until further notice" if wish.ttl_s is None else f" for {wish.ttl_s:g} s"


def _within(name: str, what: str, value: float, lowest: float, highest: float, unit: str) -> float:
    if not math.isfinite(value) or not lowest <= value <= highest:
        raise ScheduleRefused(
            schedule=name, reason=f"{what} of {value:g}{unit} is not within {lowest:g} to {highest:g}{unit}"
        )
    return value
