"""Figures and candidates as a memory says them. Pure."""

from __future__ import annotations

import msgspec

_LONGEST_CANDIDATE = 120
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def lasted(seconds: float) -> str:
    """About how long: 12 s, 5 min, 3 h, 2 d."""
    for unit_s, unit in _UNITS:
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def share(value: float) -> str:
    """A share in percent, with as many figures as it needs."""
    return f"{value * 100:.3g} %"


def candidate_name(candidate: object) -> str:
    """A candidate, or a state, by its name or as its parameters."""
    if isinstance(candidate, str):
        return cut(candidate, _LONGEST_CANDIDATE)
    return cut(msgspec.json.encode(candidate, order="sorted").decode(), _LONGEST_CANDIDATE)


def cut(text: str, characters: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 3]}..."
