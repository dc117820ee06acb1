"""Keys by name, out of what a terminal sends for them. Pure."""

from __future__ import annotations

ESCAPE = "\x1b"
_NAMES = {
    "\x1b[A": "up", "\x1bOA": "up", "k": "up",
    "\x1b[B": "down", "\x1bOB": "down", "j": "down",
    "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "g": "home",
    "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end", "G": "end",
    "\r": "enter", "\n": "enter",
}  # fmt: skip
_LONGEST = 12


class KeyReader:
    """Takes what was typed in pieces, however a sequence was cut in two."""

    def __init__(self) -> None:
        self._rest = ""

    def keys(self, typed: str) -> list[str]:
        """The keys typed; an Escape alone is one as soon as nothing follows it."""
        if not typed:
            found = ["escape"] if self._rest == ESCAPE else []
            self._rest = ""
            return found
        text, found = self._rest + typed, []
        while text:
            key = _first(text)
            if key is None:
                break
            found.append(_NAMES.get(key, "escape" if key == ESCAPE else key))
            text = text[len(key) :]
        self._rest = text[:_LONGEST]
        return found


def _first(text: str) -> str | None:
    """The first key's characters; None when they are not all there."""
    if text[0] != ESCAPE:
        return text[0]
    if len(text) == 1:
        return None
    if text[1] == "O":
        return text[:3] if len(text) > 2 else None
    if text[1] != "[":
        return ESCAPE
    for number, character in enumerate(text[2:], 2):
        if "@" <= character <= "~":
            return text[: number + 1]
    return None if len(text) < _LONGEST else ESCAPE
