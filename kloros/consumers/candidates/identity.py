"""What candidates and proposals are called: the same for the same, so that nothing is proposed twice. Pure."""

from __future__ import annotations

import hashlib

from kloros.chembus.facts_work import ImprovementFacts
from kloros.consumers.candidates.space import Parameters

HOT_SWAP = "HOT_SWAP_MODULE"


def version_of(text: str) -> str:
    """The version that a parameters file is, by its content."""
    return "p-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def candidate_id(module: str, version: str, incumbent: Parameters) -> str:
    """A candidate against one incumbent: both together are tried, and found better or not."""
    named = f"{module}|{version}|{sorted(incumbent.items())}"
    return "c-" + hashlib.sha256(named.encode()).hexdigest()[:8]


def proposal(
    module: str, artifact: str, sha256: str, *, candidate: str, source: str, priority: float, rationale: str,
    expires_ts: float,
) -> ImprovementFacts:  # fmt: skip
    """The proposal to put an artifact in force. `source` says who found it better: tournament or shadow."""
    named = f"{module}|{artifact}|{sha256}|{candidate}|{source}"
    return ImprovementFacts(
        action_id="i-" + hashlib.sha256(named.encode()).hexdigest()[:8], module_name=module, action_kind=HOT_SWAP,
        priority=min(max(priority, 0.0), 1.0), rationale=rationale, expires_at=expires_ts,
        parameters={"artifact": artifact, "sha256": sha256, "candidate_id": candidate, "source": source},
    )  # fmt: skip
