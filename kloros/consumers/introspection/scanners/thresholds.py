"""Levels with a way in and a way out. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kloros.config import Settings
from kloros.consumers.introspection.findings import Severity

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Levels(Settings, frozen=True):
    """Percentages at or above which something is wrong. `leave_percent`: a finding stays open down to here."""

    medium_percent: Percent
    high_percent: Percent
    critical_percent: Percent
    leave_percent: Percent

    def __post_init__(self) -> None:
        if not self.leave_percent < self.medium_percent <= self.high_percent <= self.critical_percent:
            raise ValueError("levels must rise: leave_percent < medium_percent <= high_percent <= critical_percent")

    def severity(self, percent: float) -> Severity | None:
        """How bad `percent` is; None below all levels."""
        if percent >= self.critical_percent:
            return Severity.CRITICAL
        if percent >= self.high_percent:
            return Severity.HIGH
        return Severity.MEDIUM if percent >= self.medium_percent else None

    def sustains(self, percent: float) -> bool:
        """Whether `percent` keeps an open finding open."""
        return percent >= self.leave_percent


class ScannerSettings(Settings, frozen=True):
    """What every scanner has."""

    enabled: bool = True
    timeout_s: Positive = 2.0
