"""What an investigator saw, for people and for rules. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

MAX_LINES = 40
LINE_CHARS = 300


class Evidence(msgspec.Struct, kw_only=True):
    """What was seen of `subject` (a unit, a mount, a resource, a daemon).

    lines: sentences for a person, the most telling first. seen: the same by name, for rules. lacks: what could not be
    looked at, and why.
    """

    playbook: str
    subject: str
    lines: list[str] = []
    seen: dict[str, Any] = {}
    lacks: list[str] = []

    def note(self, line: str) -> None:
        """Add a line; beyond a number that a person would read it is left out, and so is what stands there already."""
        line = " ".join(line.split())
        line = line if len(line) <= LINE_CHARS else line[: LINE_CHARS - 1] + "…"
        if line not in self.lines and len(self.lines) < MAX_LINES:
            self.lines.append(line)

    def saw(self, **facts: Any) -> None:
        """Keep facts for the rules; those that are None are not known, and left out."""
        self.seen.update({name: value for name, value in facts.items() if value is not None})

    def lack(self, what: str) -> None:
        """Say what could not be looked at."""
        if what not in self.lacks:
            self.lacks.append(what)

    def text(self, name: str) -> str:
        """A fact as text; empty when it is not known."""
        value = self.seen.get(name, "")
        return value if isinstance(value, str) else str(value)

    def number(self, name: str) -> float:
        """A fact as a number; 0 when it is not known."""
        value = self.seen.get(name, 0)
        return float(value) if isinstance(value, (int, float)) else 0.0

    def count(self, name: str) -> int:
        """A fact as a whole number; 0 when it is not known."""
        return int(self.number(name))

    def holds(self, name: str) -> bool:
        """Whether a fact is known and true (or not empty, or not zero)."""
        return bool(self.seen.get(name))

    def names(self, name: str) -> list[str]:
        """A fact that is a list; empty when it is not known."""
        value = self.seen.get(name, [])
        return list(value) if isinstance(value, (list, tuple)) else []

    def told(self) -> list[str]:
        """Everything for a person: what was seen, then what was not."""
        return [*self.lines, *(f"could not look at {lack}" for lack in self.lacks)]


def evidence_hash(lines: Iterable[str]) -> str:
    """16 hex digits that stand for the lines, in whatever order."""
    return hashlib.sha256("|".join(sorted(lines)).encode()).hexdigest()[:16]


def size(size_bytes: float) -> str:
    """`812 KiB`, `1.4 GiB`: as people write it."""
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= step:
            amount = size_bytes / step
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{size_bytes:.0f} bytes"


def lasting(seconds: float) -> str:
    """`40 ms`, `12 s`, `5 min`, `3 h`, `2 days`."""
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    for unit, step in (("days", 172_800.0), ("h", 7_200.0), ("min", 120.0)):
        if seconds >= step:
            return f"{seconds / {'days': 86_400, 'h': 3_600, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def counted(count: int, what: str, plural: str | None = None) -> str:
    """`1 process`, `3 processes`."""
    return f"{count} {what if count == 1 else plural or what + 's'}"


def several(names: Iterable[str], most: int = 4) -> str:
    """`a, b and 3 more`."""
    known = list(names)
    shown = ", ".join(known[:most])
    return f"{shown} and {len(known) - most} more" if len(known) > most else shown
