"""How far a change may go, how it is verified, and when too much failed. Pure."""

from __future__ import annotations

import math

import msgspec


def _check(owner: msgspec.Struct, bounds: dict[str, tuple[float, float]]) -> None:
    for name, (low, high) in bounds.items():
        value = getattr(owner, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{name} is {value!r}; it must be from {low:g} to {high:g}")


class BreakerRules(msgspec.Struct, frozen=True):
    """So many failures within `window_s` stop everything for `pause_s`."""

    failures: int = 3
    window_s: float = 120.0
    pause_s: float = 600.0

    def __post_init__(self) -> None:
        _check(self, {"failures": (1, 10_000), "window_s": (0.001, 1e9), "pause_s": (0, 1e9)})


class Limits(msgspec.Struct, frozen=True):
    """How far one step may go, and how far all steps together from where it was first.

    tune_step: a share of the threshold, either way. tune_range: a factor, either way. budget_step, budget_range:
    factors. least_pace: below that load is not reduced. lease_s: how long an unconfirmed change holds.
    """

    tune_step: float = 0.5
    tune_range: float = 2.0
    budget_step: float = 2.0
    budget_range: float = 4.0
    least_pace: float = 0.25
    lease_s: float = 1800.0

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "tune_step": (0, 0.9),
                "tune_range": (1, 100),
                "budget_step": (1, 100),
                "budget_range": (1, 100),
                "least_pace": (0.01, 1),
                "lease_s": (0.001, 1e9),
            },
        )


class Verification(msgspec.Struct, frozen=True):
    """How a change is judged: it settles, then `min_samples` are compared with as many from before.

    min_gain: by which share what it was made for must get better. max_harm: by which share anything may get worse.
    """

    settle_s: float = 60.0
    min_samples: int = 20
    min_gain: float = 0.1
    max_harm: float = 0.2
    undo_attempts: int = 5

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "settle_s": (0, 1e9),
                "min_samples": (1, 1_000_000),
                "min_gain": (0, 10),
                "max_harm": (0, 100),
                "undo_attempts": (1, 1000),
            },
        )
