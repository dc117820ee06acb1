"""config/shadow_config.toml."""

from __future__ import annotations

from kloros.config import Settings


class ShadowSettings(Settings, frozen=True):
    """The whole file."""
