"""What a change moves, one lever for each kind: read, put, put back. Each wait is bounded, each put idempotent.

A value is in force when it is read back from whoever obeys it: a daemon's heart, the scheduler's tick, the pointer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from kloros.chembus.facts import ControlFacts, CycleBudgetFacts, Facts
from kloros.clock import Clock
from kloros.optimisation import store
from kloros.optimisation.changes import same
from kloros.optimisation.effects import BUDGET, PACE
from kloros.optimisation.live import Live
from kloros.optimisation.model import THRESHOLDS, ActionKind, Value
from kloros.optimisation.settings import OptimiserSettings, detector_of
from kloros.storage.reads import Reads
from kloros.units import us_to_seconds

POLL_S = 0.1
"""How often something is looked at while it is waited for."""
_SAYS_SOURCE = "source" in ControlFacts.__struct_fields__


class NotDone(Exception):
    """It was tried; it is not so, or nobody said that it is."""


class Unfit(Exception):
    """It cannot be done as things are; nothing was done. `must_flag`: a person should hear of it."""

    def __init__(self, reason_code: str, detail: str, *, must_flag: bool = False) -> None:
        super().__init__(detail)
        self.reason_code, self.must_flag = reason_code, must_flag


class Reading(NamedTuple):
    """What is in force, as far as anybody can tell."""

    value: Value = None
    is_readable: bool = True
    why: str = ""


@dataclass(frozen=True)
class Hand:
    """What levers are moved with.

    wait: lets so many seconds pass; False when there is no more time at all. emit: sends a signal at once.
    """

    wait: Callable[[float], bool]
    emit: Callable[[str, Facts], None]
    answer_s: float

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it became so in time."""
        for _ in range(max(1, math.ceil(timeout_s / POLL_S))):
            if is_so():
                return True
            if not self.wait(POLL_S):
                break
        return is_so()


@dataclass(frozen=True)
class Wanted:
    """A value, and until when; `is_own`: the module is to go back to what its own settings say, which is this value."""

    module: str
    name: str
    value: Value
    until_us: int
    change_id: str
    is_own: bool = False


class Lever(Protocol):
    """One kind of thing that can be changed."""

    def read(self, module: str, name: str) -> Reading:
        """What is in force."""

    def put(self, wanted: Wanted, hand: Hand) -> None:
        """Put it in force, and see that it is. Raises NotDone, Unfit."""


class Thresholds:
    """The detector reads them from the tables, as it reads everything."""

    def __init__(self, source: Reads, settings: OptimiserSettings) -> None:
        self._source, self._settings = source, settings

    def read(self, module: str, name: str) -> Reading:
        if name not in THRESHOLDS:
            return Reading(None, False, f"there is no threshold {name}")
        found = store.knob(self._source, ActionKind.TUNE_THRESHOLD, module, name)
        return Reading(found.value if found else float(getattr(detector_of(self._settings, module), name)))

    def put(self, wanted: Wanted, hand: Hand) -> None:
        """It was kept together with the change."""


class Budgets:
    """How long a daemon's cycles may take, as its heart says."""

    def __init__(self, live: Live, clock: Clock) -> None:
        self._live, self._clock = live, clock

    def read(self, module: str, name: str) -> Reading:
        heart = self._live.heart(self._live.zooid_of(module), self._clock.monotonic_s())
        if heart is None or heart.budget_s is None:
            return Reading(None, False, f"no daemon {module} with a {BUDGET} is heard of")
        return Reading(heart.budget_s)

    def put(self, wanted: Wanted, hand: Hand) -> None:
        self.announce(wanted, hand)
        if not hand.wait_until(lambda: self._is(wanted), hand.answer_s):
            raise NotDone(f"{wanted.module} did not say that its budget is {wanted.value} s")

    def announce(self, wanted: Wanted, hand: Hand) -> None:
        """Say it, without waiting for an answer."""
        budget_s = None if wanted.is_own or not isinstance(wanted.value, float | int) else float(wanted.value)
        until_ts = None if budget_s is None else us_to_seconds(wanted.until_us)
        facts = CycleBudgetFacts(
            daemon=self._live.zooid_of(wanted.module), budget_s=budget_s, until_ts=until_ts,
            requester=_requester(wanted),
        )  # fmt: skip
        hand.emit("CYCLE_BUDGET", facts)

    def _is(self, wanted: Wanted) -> bool:
        found = self.read(wanted.module, wanted.name)
        return found.is_readable and same(found.value, wanted.value)


class Paces:
    """At which pace a module's entry runs by our wish, as the schedule shows; 1.0 where we wish nothing."""

    def __init__(self, live: Live, clock: Clock, source: Reads) -> None:
        self._live, self._clock, self._source = live, clock, source

    def entry_of(self, module: str) -> str | None:
        """The entry of the schedule that a module works for, by its heart."""
        heart = self._live.heart(self._live.zooid_of(module), self._clock.monotonic_s())
        return heart.schedule if heart else None

    def read(self, module: str, name: str) -> Reading:
        if not self._live.is_schedule_known(self._clock.monotonic_s()):
            return Reading(None, False, "no scheduler shows its schedule")
        name = self.entry_of(module) or ""
        entry = self._live.entries.get(name)
        if entry is None:
            return Reading(None, False, f"the schedule has no entry of {module}")
        wish = store.knob(self._source, ActionKind.REDUCE_LOAD, module, PACE)
        if wish is None or not isinstance(wish.value, float | int):
            return Reading(1.0)
        is_ours = entry.pace <= wish.value or same(entry.pace, wish.value)
        return Reading(float(wish.value) if is_ours else 1.0)

    def put(self, wanted: Wanted, hand: Hand) -> None:
        name = self.entry_of(wanted.module)
        entry = self._live.entries.get(name or "")
        if name is None or entry is None:
            raise Unfit("no_entry", f"the schedule has no entry of {wanted.module}")
        now_us = self._clock.wall_us()
        pace = float(wanted.value) if isinstance(wanted.value, float | int) else 1.0
        requester = f"{_requester(wanted)} at {now_us}"
        ttl_s = None if same(pace, 1.0) else max(1.0, us_to_seconds(wanted.until_us - now_us))
        told = {"source": "optimiser"} if _SAYS_SOURCE else {}
        wish = ControlFacts(op="set_pace", schedule=name, value=pace, ttl_s=ttl_s, requester=requester, **told)
        hand.emit("Q_SCHEDULE_CONTROL", wish)
        if not hand.wait_until(lambda: requester in self._live.answers, hand.answer_s):
            raise NotDone("the scheduler did not answer")
        if not self._live.answers[requester].ok:
            raise NotDone(f"the scheduler refused: {self._live.answers[requester].detail}")
        if not same(pace, 1.0) and not hand.wait_until(lambda: self._runs_at_most(name, pace), hand.answer_s):
            raise NotDone(f"the schedule does not show {name} at pace {pace:g}")

    def _runs_at_most(self, name: str, pace: float) -> bool:
        entry = self._live.entries.get(name)
        return entry is not None and (entry.pace <= pace or same(entry.pace, pace))


def module_of(zooid: str) -> str:
    """The module that a daemon is."""
    return zooid.removesuffix("_daemon")


def _requester(wanted: Wanted) -> str:
    return f"optimiser, {wanted.change_id}"
