"""What of a finding's evidence stays the same while the finding does, and what only wavers. Pure.

A question's evidence is made of the former, so that its hash does not change with each measured number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

MAX_GIVEN = 64  # what comes after is not looked at
MAX_ITEMS = 16
MAX_NAME_CHARS = 64
MAX_VALUE_CHARS = 300

# Facets that name what is wrong: kept as they are, numbers and all (an exit status is a name).
_FACETS = frozenset(
    {"unit", "problem", "result", "exit", "resource", "mount", "device", "fstype", "observer", "signal", "scanner"}
)
# Samples of something, and states that change by the second while the finding stays the same.
_WAVERING = frozenset({"message", "state", "source", "kind", "priority", "error", "summary"})
_NUMBER = re.compile(r"[-+]?\d+(?:[.,:]\d+)*(?:[eE][-+]?\d+)?")
_MEASURE = re.compile(r"[-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?\s*(?:%|[a-zA-Z]{1,4})?|nan|inf)", re.IGNORECASE)
_PID = re.compile(r"\[\d+\]$")


class Split(NamedTuple):
    """Evidence, and measures."""

    evidence: list[str]
    measures: list[str]


def clipped(text: str, limit: int = MAX_VALUE_CHARS) -> str:
    """One line of at most `limit` characters, whatever was given."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def stable_name(gap_type: str, gap_name: str) -> str:
    """What the finding is about, without what is new in each life of it: the number of a process."""
    return clipped(_PID.sub("", gap_name) if gap_type.endswith("files_exhausted") else gap_name)


def topic_of(gap_type: str, gap_name: str) -> str:
    """What counts as the same again."""
    return f"{clipped(gap_type, MAX_NAME_CHARS)}|{stable_name(gap_type, gap_name)}"


def capability_key(gap_type: str, gap_name: str) -> str:
    """What the machine lacks: the finding's kind and whom it concerns (of a log's messages: who logs them)."""
    name = stable_name(gap_type, gap_name)
    if gap_type == "journal_errors":
        name = name.partition(": ")[0]
    return f"{clipped(gap_type, MAX_NAME_CHARS)}:{name}"


def split(gap_type: str, gap_name: str, severity: str, given: Iterable[str], returns: int) -> Split:
    """The evidence of a finding. Its identity, how bad it is and (in doublings) how often it came back are part of it:
    what is worse, or has come back after it was mended, is not the same any more."""
    kept = {"gap": clipped(gap_type, MAX_NAME_CHARS), "name": stable_name(gap_type, gap_name), "severity": severity}
    if returns > 0:
        kept["returned"] = doublings(returns)
    measures: list[str] = []
    bare: set[str] = set()
    for item in islice(given, MAX_GIVEN):
        name, is_pair, value = item.partition("=")
        name, value = clipped(name, MAX_NAME_CHARS), clipped(value)
        if is_pair and (name in _WAVERING or (name not in _FACETS and _MEASURE.fullmatch(value))):
            measures.append(f"{name}={value}")
        elif name in kept or len(kept) + len(bare) >= MAX_ITEMS:
            continue
        elif is_pair:
            kept[name] = value if name in _FACETS else _NUMBER.sub("<n>", value)
        else:
            bare.add(_NUMBER.sub("<n>", clipped(item)))
    return Split(sorted([*(f"{name}={value}" for name, value in kept.items()), *bare]), measures[:MAX_ITEMS])


def doublings(count: int) -> str:
    """1, 2-3, 4-7, 8-15 ...: how often, without changing each time."""
    low = 1 << (count.bit_length() - 1)
    return str(low) if low == 1 else f"{low}-{2 * low - 1}"


def read(items: Iterable[str]) -> dict[str, str]:
    """name=value pairs by name; the first of a name counts."""
    pairs: dict[str, str] = {}
    for item in items:
        name, is_pair, value = item.partition("=")
        if is_pair:
            pairs.setdefault(name, value)
    return pairs
