"""config/investigation_consumer_config.toml."""

from __future__ import annotations

from kloros.config import Settings


class InvestigationSettings(Settings, frozen=True):
    """The whole file."""
