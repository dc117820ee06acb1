"""How a signal is declared: what it carries, and what is promised about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Literal

from kloros.chembus.facts import Facts, TriggerFacts
from kloros.errors import UnknownSignal

TRIGGER_PREFIX = "Q_TRIGGER_"
_USER_TRIGGER = re.compile(r"Q_TRIGGER_[A-Z0-9][A-Z0-9_]{0,63}")
_TYPO_LIKENESS = 0.9  # a name this close to a known one is taken for a typing error
_MAX_TRIGGERS_KEPT = 32_768  # looking for typing errors is slow: names that passed are kept


class Delivery(Enum):
    """How a signal travels."""

    VOLATILE = "volatile"
    """Fire and forget; gaps are counted and announced."""
    DURABLE = "durable"
    """Has its effect exactly once, whoever dies when."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One signal and its promises.

    `rate_per_s` and `burst` bound one emitter (None: unbounded); `over_rate` says whether an emit beyond them is
    dropped or raises RateLimited. A message older than `lifespan_s` is refused by the receiver. A silence of
    one emitter longer than `deadline_s` is announced, by those and in the way that `summary` says.
    """

    name: str
    facts: type[Facts]
    ecosystem: str
    summary: str
    delivery: Delivery = Delivery.VOLATILE
    emitted_by: str = "anyone"
    heard_by: str = "anyone"
    rate_per_s: float | None = 1_000.0
    burst: int = 2_000
    over_rate: Literal["drop", "raise"] = "drop"
    lifespan_s: float | None = None
    deadline_s: float | None = None


def durable(name: str, shape: type[Facts], ecosystem: str, emitted_by: str, heard_by: str, summary: str) -> Signal:
    """A durable signal with the usual rates."""
    return Signal(
        name=name,
        facts=shape,
        ecosystem=ecosystem,
        summary=summary,
        delivery=Delivery.DURABLE,
        emitted_by=emitted_by,
        heard_by=heard_by,
        rate_per_s=2_000.0,
        burst=10_000,
        over_rate="raise",
    )


class Vocabulary:
    """The signals a process knows. Besides those declared, the family Q_TRIGGER_<NAME> is open to everyone."""

    def __init__(self, signals: Iterable[Signal] = ()) -> None:
        self._signals: dict[str, Signal] = {}
        self._user_triggers: dict[str, Signal] = {}
        for signal in signals:
            self.declare(signal)

    def declare(self, signal: Signal) -> Signal:
        """Add a signal. Declaring the same one again is fine; declaring it differently is an error.

        Raises:
            ValueError: The name is taken by another declaration, or cannot be a topic.
        """
        if not signal.name or signal.name.endswith("*") or not signal.name.isprintable():
            raise ValueError(f"{signal.name!r} cannot name a signal")
        known = self._signals.setdefault(signal.name, signal)
        if known != signal:
            raise ValueError(f"{signal.name} is already declared, differently: {known.summary}")
        self._user_triggers.clear()  # one of them may look like a typing error now
        return signal

    def lookup(self, name: str) -> Signal:
        """The signal of that name, or of that family.

        Raises:
            UnknownSignal: There is none; `suggestion` is the closest name there is, or None.
        """
        signal = self._signals.get(name) or self._user_triggers.get(name)
        if signal is not None:
            return signal
        suggestion = self._suggest(name)
        if suggestion is None and _USER_TRIGGER.fullmatch(name):
            return self._keep(user_trigger(name))
        hint = f" (did you mean {suggestion}?)" if suggestion else ""
        raise UnknownSignal(signal=name, suggestion=suggestion, hint=hint)

    def knows(self, name: str) -> bool:
        """Whether the name, or its family, is in the vocabulary."""
        try:
            self.lookup(name)
        except UnknownSignal:
            return False
        return True

    def __iter__(self) -> Iterator[Signal]:
        return iter(self._signals.values())

    def __len__(self) -> int:
        return len(self._signals)

    def _keep(self, trigger: Signal) -> Signal:
        if len(self._user_triggers) >= _MAX_TRIGGERS_KEPT:
            self._user_triggers.clear()
        self._user_triggers[trigger.name] = trigger
        return trigger

    def _suggest(self, name: str) -> str | None:
        name = name[:128]
        # Names whose lengths differ too much cannot be close: leaving them out first spares most of the comparing.
        alike = [known for known in self._signals if _could_be_close(len(name), len(known))]
        close = get_close_matches(name, alike, n=1, cutoff=_TYPO_LIKENESS)
        return close[0] if close else None


def _could_be_close(length: int, other: int) -> bool:
    return 2 * min(length, other) >= _TYPO_LIKENESS * (length + other)


def user_trigger(name: str) -> Signal:
    """A trigger of a user's own daemon."""
    return Signal(
        name=name,
        facts=TriggerFacts,
        ecosystem=name.removeprefix(TRIGGER_PREFIX).lower(),
        summary="A user's own trigger.",
        emitted_by="scheduler, or anyone by injection",
        heard_by="the user's daemon",
        rate_per_s=5_000.0,
        burst=20_000,
        lifespan_s=300.0,
    )
