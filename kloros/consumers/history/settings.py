"""config/chembus_historian_config.toml: how much is kept, and how it is written."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from kloros.config import Settings
from kloros.storage.history_store import Bounds

_US_PER_DAY = 86_400_000_000
_BYTES_PER_MIB = 1 << 20


class KeepSettings(Settings, frozen=True):
    """[keep]"""

    max_age_d: Annotated[float, Meta(gt=0, le=36_500)] = 14.0
    max_size_mib: Annotated[int, Meta(ge=4, le=1 << 20)] = 512


class WriteSettings(Settings, frozen=True):
    """[write]"""

    every_s: Annotated[float, Meta(gt=0, le=60)] = 1.0
    at_messages: Annotated[int, Meta(ge=1)] = 1_000
    buffer_messages: Annotated[int, Meta(ge=1)] = 100_000
    buffer_mib: Annotated[int, Meta(ge=1)] = 64


class HistorianSettings(Settings, frozen=True):
    """The whole file."""

    keep: KeepSettings = KeepSettings()
    write: WriteSettings = WriteSettings()
    fold_s: dict[str, Annotated[float, Meta(ge=0)]] = field(
        default_factory=lambda: {"Q_SCHEDULE_TICK": 60.0, "HEARTBEAT": 60.0, "Q_JOURNAL_ADVANCED": 60.0}
    )

    @property
    def bounds(self) -> Bounds:
        """[keep] in the store's units."""
        return Bounds(round(self.keep.max_age_d * _US_PER_DAY), self.keep.max_size_mib * _BYTES_PER_MIB)

    @property
    def buffer_bytes(self) -> int:
        """What may wait to be written."""
        return self.write.buffer_mib * _BYTES_PER_MIB


class PruneOrder(Struct, frozen=True):
    """The history is to become so small, once. `offset` tells one order from another."""

    max_bytes: int
    offset: int
