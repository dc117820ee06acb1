"""config/semantic_dedup_consumer_config.toml."""

from __future__ import annotations

from kloros.config import Settings


class DedupSettings(Settings, frozen=True):
    """The whole file."""
