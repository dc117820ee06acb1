"""For existing KLoROS code: `from kloros.orchestration.chem_bus_v2 import ChemPub, ChemSub`, unchanged.

What differs from ChemPub and ChemSub themselves: the endpoints may come from the environment (KLR_CHEM_XSUB and
KLR_CHEM_XPUB, else KLR_UMN_XSUB and KLR_UMN_XPUB, read when an object is made), and signals outside the vocabulary
pass, with any facts. Declared signals are held to their facts, but may carry more than these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from kloros.chembus import pub, sub
from kloros.chembus.endpoints import Endpoints, compat_endpoints
from kloros.chembus.inbox import OnJson
from kloros.errors import NotJournaled
from kloros.telemetry.logs import get_logger

__all__ = ["ChemPub", "ChemSub"]

_FAMILIES = ("KLR_CHEM", "KLR_UMN")


class ChemPub(pub.ChemPub):
    """See kloros.chembus.pub.ChemPub."""

    def __init__(self, ipc_path: str | None = None) -> None:
        """`ipc_path` is accepted for old callers' sake and ignored, as it always was."""
        super().__init__(_endpoints(os.environ), open_facts=True)

    def emit(self, signal: str, **message: Any) -> str | None:
        """See kloros.chembus.pub.ChemPub.emit. What the journal would not confirm is logged: old callers do not expect
        an exception from an emit."""
        try:
            return super().emit(signal, **message)
        except NotJournaled as error:
            get_logger().error("not_journaled", signal=signal, reason=str(error))
            return None


class ChemSub(sub.ChemSub):
    """See kloros.chembus.sub.ChemSub."""

    def __init__(
        self,
        topic: str,
        on_json: OnJson,
        zooid_name: str | None = None,
        niche: str | None = None,
        *,
        ipc_path: str | None = None,
    ) -> None:
        """`ipc_path` is accepted for old callers' sake and ignored, as it always was."""
        super().__init__(topic, on_json, zooid_name, niche, endpoints=_endpoints(os.environ), open_facts=True)


def _endpoints(environment: Mapping[str, str]) -> Endpoints | None:
    default = compat_endpoints()[0]
    for family in _FAMILIES:
        publish, subscribe = environment.get(f"{family}_XSUB"), environment.get(f"{family}_XPUB")
        if publish or subscribe:
            return Endpoints(publish or default.publish, subscribe or default.subscribe)
    return None
