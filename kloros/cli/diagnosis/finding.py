"""What a check of `kloros doctor` comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """`note`: worth knowing, nothing of the suite is broken; `bad`: needs doing, and `cure` says what."""

    name: str
    verdict: Verdict
    found: str
    cure: str = ""
