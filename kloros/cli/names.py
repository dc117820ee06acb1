"""Names that the shell completes: schedule entries from the config file, signals from the vocabulary."""

from __future__ import annotations

from kloros.errors import KlorosError


def complete_schedule(incomplete: str) -> list[str]:
    """Entries of scheduler_config.toml that begin like this; none when the file cannot be read."""
    from kloros.config import read_toml
    from kloros.place import Place

    try:
        entries = read_toml(Place.discover().config / "scheduler_config.toml").get("entries", {})
    except KlorosError:
        return []
    return [name for name in entries if name.startswith(incomplete)]


def complete_signal(incomplete: str) -> list[str]:
    """Signals of the vocabulary that begin like this."""
    from kloros.chembus.vocabulary import VOCABULARY

    return [signal.name for signal in VOCABULARY if signal.name.startswith(incomplete)]
