"""config/affect_config.toml: when a sign of the machine is calm, when it is too much, and when that is a feeling."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kloros.config import Settings

NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]


class Ramp(Settings, frozen=True):
    """A value at `calm` is no trouble (level 0), one at `full` all the trouble there can be (level 1). `calm` above
    `full` means that less is worse."""

    calm: float
    full: float

    def __post_init__(self) -> None:
        if self.calm == self.full:
            raise ValueError("calm and full must differ")

    def level(self, value: float) -> float:
        """Where `value` lies between the two, from 0 to 1."""
        return min(1.0, max(0.0, (value - self.calm) / (self.full - self.calm)))


class Turn(Settings, frozen=True):
    """A feeling begins once its value has been at or above `enter` for `after_s`, and ends once it is below `leave`;
    either lasts `hold_s` at least."""

    enter: float
    leave: float
    after_s: NotNegative
    hold_s: Positive

    def __post_init__(self) -> None:
        if not self.leave < self.enter:
            raise ValueError("leave must be less than enter")


class TimeSettings(Settings, frozen=True):
    """[time]"""

    ttl_s: Positive = 45.0
    smooth_s: Positive = 20.0
    fatigue_s: Positive = 600.0
    recovery_s: Positive = 600.0
    window_s: Positive = 600.0


class DiskSettings(Settings, frozen=True):
    """[disk]"""

    paths: tuple[str, ...] = ("/", "/var", "/tmp")


class SignSettings(Settings, frozen=True):
    """[signs]"""

    cpu_some: Ramp = Ramp(calm=40, full=95)
    load: Ramp = Ramp(calm=2, full=8)
    memory_some: Ramp = Ramp(calm=5, full=40)
    memory_full: Ramp = Ramp(calm=2, full=25)
    memory_used: Ramp = Ramp(calm=80, full=97)
    swap_used: Ramp = Ramp(calm=50, full=95)
    io_some: Ramp = Ramp(calm=50, full=100)
    io_full: Ramp = Ramp(calm=30, full=90)
    disk_used: Ramp = Ramp(calm=90, full=99)
    inodes_used: Ramp = Ramp(calm=90, full=99)
    heat: Ramp = Ramp(calm=20, full=5)
    delay_ms: Ramp = Ramp(calm=100, full=2000)
    lost_per_min: Ramp = Ramp(calm=5, full=200)
    tick_silent_s: Ramp = Ramp(calm=5, full=30)
    failed: Ramp = Ramp(calm=10, full=60)
    repeated_error: Ramp = Ramp(calm=1, full=5)
    restarts: Ramp = Ramp(calm=1, full=5)
    over_budget: Ramp = Ramp(calm=20, full=80)
    backlog: Ramp = Ramp(calm=100, full=1000)


class PerilSettings(Settings, frozen=True):
    """[peril]: the ramps of the brake, far above those of [signs]."""

    cpu_some: Ramp = Ramp(calm=80, full=98)
    load: Ramp = Ramp(calm=4, full=10)
    memory_some: Ramp = Ramp(calm=20, full=60)
    memory_full: Ramp = Ramp(calm=10, full=50)
    memory_used: Ramp = Ramp(calm=95, full=99)
    io_full: Ramp = Ramp(calm=80, full=98)
    heat: Ramp = Ramp(calm=5, full=1)


class FeelingSettings(Settings, frozen=True):
    """[feelings]"""

    resource_strain: Turn = Turn(enter=0.6, leave=0.4, after_s=0, hold_s=30)
    memory_pressure: Turn = Turn(enter=0.6, leave=0.4, after_s=0, hold_s=30)
    critical_fatigue: Turn = Turn(enter=0.8, leave=0.5, after_s=0, hold_s=60)
    emergency_brake: Turn = Turn(enter=0.8, leave=0.3, after_s=30, hold_s=60)
    wellbeing_low: Turn = Turn(enter=0.65, leave=0.5, after_s=60, hold_s=60)
    wellbeing_high: Turn = Turn(enter=0.8, leave=0.65, after_s=300, hold_s=60)
    repetitive_error: Turn = Turn(enter=3, leave=1, after_s=0, hold_s=30)
    task_failure_pattern: Turn = Turn(enter=30, leave=10, after_s=0, hold_s=60)
    stuck_loop: Turn = Turn(enter=3, leave=1, after_s=0, hold_s=60)


class AffectSettings(Settings, frozen=True):
    """The whole file."""

    time: TimeSettings = TimeSettings()
    disk: DiskSettings = DiskSettings()
    signs: SignSettings = SignSettings()
    peril: PerilSettings = PerilSettings()
    feelings: FeelingSettings = FeelingSettings()
