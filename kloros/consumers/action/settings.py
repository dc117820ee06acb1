"""config/action_consumer_config.toml."""

from __future__ import annotations

from kloros.config import Settings


class ActionSettings(Settings, frozen=True):
    """The whole file."""
