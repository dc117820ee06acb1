"""What a kind of action is, and what it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from kloros.chembus.facts import ChangedFacts, Facts, TickEntry
from kloros.consumers.action.action import Action, State
from kloros.machine.privileged_client import PrivilegedClient
from kloros.machine.systemd_bus import SystemdBus

POLL_S = 0.2
"""How often something is looked at while it is waited for."""


class Unfit(Exception):
    """The action must not be done as things are; nothing was done."""


class NotDone(Exception):
    """It was tried, and failed."""


class TooSlow(Exception):
    """It was not done within its time; perhaps it will be yet."""


class Interrupted(Exception):
    """The beat or the process ends; what becomes of it is looked at later."""


class Judgement(NamedTuple):
    """Whether it helped; None: it cannot be told yet."""

    helped: bool | None
    why: str


NOT_YET = Judgement(None, "it is not settled yet")


@dataclass(frozen=True)
class Hand:
    """What a kind is given with each action.

    wait: lets so many seconds pass; returns False when there is no more time at all. emit: sends a signal at once.
    """

    wait: Callable[[float], bool]
    emit: Callable[[str, Facts], None]

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Raises TooSlow, Interrupted."""
        for _ in range(max(1, math.ceil(timeout_s / POLL_S))):
            if is_so():
                return
            if not self.wait(POLL_S):
                raise Interrupted(what)
        if not is_so():
            raise TooSlow(f"{what} within {timeout_s:g} s")


@dataclass(frozen=True)
class Tools:
    """What all kinds share. `entries` is the schedule as it was last told, `answers` the scheduler's by requester."""

    systemd: SystemdBus
    helper: PrivilegedClient
    entries: Callable[[], Mapping[str, TickEntry]]
    answers: Mapping[str, ChangedFacts]
    history_file: Path
    own_entry: str

    def require_helper(self) -> None:
        """Raises Unfit when there is none."""
        if not self.helper.is_there:
            raise Unfit("it takes the privileged helper (kloros-helper.socket), and there is none here")


class Kind(Protocol):
    """One kind of action. `before` and `after` are what it remembers of the target, before and after it acted."""

    def check(self, action: Action) -> State:
        """What the target is like. Raises Unfit when the action makes no sense, CannotObserve when nobody can tell."""

    def act(self, action: Action, before: State, hand: Hand) -> None:
        """Do it. Raises Unfit, NotDone, TooSlow, Interrupted, or an error of the helper's."""

    def look(self, action: Action, before: State) -> State:
        """What the target is like once that was done; also when it is not known whether it was."""

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Judgement:
        """Whether it helped, so long after `look`. Changes nothing."""

    def undo(self, action: Action, before: State, hand: Hand) -> str | None:
        """Take it back; returns what was done, None where nothing can be. Raises as `act` does."""


@runtime_checkable
class Lapses(Protocol):
    """A kind whose actions hold for a while only."""

    def lapses_after_s(self, before: State) -> float:
        """For how long."""

    def is_over(self, action: Action) -> bool:
        """Whether somebody else has ended it already."""

    def take_back(self, action: Action, hand: Hand) -> bool:
        """Its time is over: see to its end; returns whether there is nothing left to take back."""


Property = Literal["MemoryMax", "TasksMax", "LimitNOFILE"]


def number(action: Action, name: str, default: float) -> float:
    """A parameter as a number. Raises Unfit."""
    text = action.parameters.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise Unfit(f"{name}={text[:40]!r} is not a number above zero")
    return value
