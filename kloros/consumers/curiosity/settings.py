"""config/curiosity_core_consumer_config.toml."""

from __future__ import annotations

from kloros.config import Settings


class CuriositySettings(Settings, frozen=True):
    """The whole file."""
