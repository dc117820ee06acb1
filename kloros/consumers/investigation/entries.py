"""Which entry of the suite's own schedule a unit works for, and whether that may rest. Pure."""

from __future__ import annotations

import re

# Introspection, the historian and the ledger writer see and keep what happens, the action consumer acts on it: they
# never rest. The proxy and the scheduler have no entry.
_MAY_REST = {
    "kloros-curiosity-core-consumer.service": "curiosity_generation",
    "kloros-semantic-dedup-consumer.service": "semantic_dedup",
    "kloros-investigation-consumer.service": "investigation_processing",
    "kloros-shadow.service": "shadow_evaluation",
    "kloros-tournament-consumer.service": "tournament_evaluation",
    "kloros-decay.service": "memory_decay",
}
_OWN = re.compile(r"^kloros-consumer@(?P<module>[\w.]+):(?P<name>\w+)\.service$")


def entry_of(unit: str, heard: dict[str, str]) -> str:
    """The entry that may be paused because of a unit; empty when there is none.

    heard: entry by zooid, as the daemons' cycle reports name them.
    """
    if match := _OWN.match(unit):
        return heard.get(_snake(match["name"]), "")
    return _MAY_REST.get(unit, "")


def unit_of_zooid(zooid: str) -> str:
    """The unit of one of the suite's daemons: `kloros-decay.service` for `decay_daemon`."""
    return f"kloros-{zooid.removesuffix('_daemon').replace('_', '-')}.service"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
