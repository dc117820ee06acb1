"""config/decay_config.toml."""

from __future__ import annotations

from kloros.config import Settings


class MemorySettings(Settings, frozen=True):
    """The whole file."""
