"""Which findings are about the questions themselves: nothing is ever asked about those. Pure.

A daemon of ours that crashes, hangs or is silent is asked about like any other. What it says about one question, or
about questions as such, is not: each question would raise the next.
"""

from __future__ import annotations

import re

# Those who ask, fold and answer.
CHAIN = ("curiosity_core_consumer", "semantic_dedup_consumer", "investigation_consumer")
_TYPE = re.compile(r"(?:^|[_.\W])(?:questions?|curiosity|investigations?|hypothes[ie]s)(?:$|[_.\W])")
_WORD = re.compile(
    r"\bquestions?(?:_|\b)|\binvestigations?(?:_|\b(?!-))|\bhypothes[ie]s\b|\bevidence_hash\b"
    r"|Q_CURIOSITY_|Q_INVESTIGATION_|Q_QUESTION_",
    re.IGNORECASE,
)
_QUESTION_ID = re.compile(r"\bq-(?:[0-9a-f]{8}\b|<hex>|<n>)")


def is_about_questions(gap_type: str, gap_name: str, evidence: dict[str, str]) -> bool:
    """Whether asking about this finding would be asking about questions."""
    if _TYPE.search(gap_type.lower()):
        return True
    if gap_type != "journal_errors":
        return _QUESTION_ID.search(gap_name) is not None
    source, _, template = gap_name.partition(": ")
    text = f"{template} {evidence.get('message', '')}"
    if _is_of_the_chain(source) and _WORD.search(text):
        return True
    return source.startswith("kloros") and _QUESTION_ID.search(text) is not None


def _is_of_the_chain(source: str) -> bool:
    name = source.replace("-", "_")
    return any(each in name for each in CHAIN)
