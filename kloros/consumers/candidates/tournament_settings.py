"""config/tournament_consumer_config.toml."""

from __future__ import annotations

from kloros.config import Settings


class TournamentSettings(Settings, frozen=True):
    """The whole file."""
