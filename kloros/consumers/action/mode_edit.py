"""Another mode for one kind, in the text of the settings file: one line changes, everything else stays. Pure."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from kloros.consumers.action.settings import Mode

_HEADER = re.compile(r"\s*\[")
_MODE = re.compile(r"(?P<key>\s*mode\s*=\s*)(?P<value>\"[^\"]*\"|'[^']*')(?P<rest>.*)", re.DOTALL)


def with_mode(text: str, kind: str, mode: Mode) -> str:
    """The file's text with that mode for that kind.

    Raises:
        ValueError: The text is written in a way that cannot be changed safely, or is not TOML.
    """
    lines = text.splitlines(keepends=True)
    header = re.compile(rf"\s*\[\s*kinds\s*\.\s*{re.escape(kind)}\s*\]\s*(#.*)?$")
    start = next((number for number, line in enumerate(lines) if header.match(line.rstrip("\n"))), None)
    if start is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        changed = f'{text}{gap}\n[kinds.{kind}]\nmode = "{mode}"\n'
    else:
        end = next((n for n in range(start + 1, len(lines)) if _HEADER.match(lines[n])), len(lines))
        found = next((n for n in range(start + 1, end) if _MODE.fullmatch(lines[n])), None)
        if found is None:
            header_line = lines[start] if lines[start].endswith("\n") else f"{lines[start]}\n"
            lines[start] = f'{header_line}mode = "{mode}"\n'
        else:
            lines[found] = _MODE.sub(rf'\g<key>"{mode}"\g<rest>', lines[found])
        changed = "".join(lines)
    if _parsed(changed) != _wanted(_parsed(text), kind, mode):
        raise ValueError("the file is written in a way that only a person can change")
    return changed


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is not TOML: {error}") from error


def _wanted(tables: dict[str, Any], kind: str, mode: str) -> dict[str, Any]:
    kinds = tables.get("kinds", {})
    return {**tables, "kinds": {**kinds, kind: {**kinds.get(kind, {}), "mode": mode}}}
