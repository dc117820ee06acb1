"""Folds log lines that say the same thing: what varies (numbers, ids, paths, addresses) becomes a mark. Pure."""

from __future__ import annotations

import re

MAX_TEMPLATE_CHARS = 160
# More of a line than this is never looked at: folding must stay cheap whatever a program logs.
_MAX_INPUT_CHARS = 600

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MARKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\s+"), " "),  # first: what follows looks across single spaces
    (re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b(?:https?|ftp|tcp|udp|ipc|unix|file|wss?)://[^\s'\"<>),;]+"), "<url>"),
    (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"), "<address>"),
    (re.compile(r"(?<![\w<>/])~?(?:/[^\s/'\"<>:,;()\[\]=]+)+/?"), "<path>"),
    (re.compile(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b"), "<mac>"),
    (re.compile(r"\b0[xX][0-9a-fA-F]+\b"), "<hex>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"), "<hex>"),
    (re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.])"), "<ip>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
    (re.compile(r"<n>(?:[-+ ,/]{0,2}<n>)+"), "<n>"),
)


def fold(line: str) -> str:
    """The template of a log line: the same for lines that differ in numbers, ids or paths; bounded in length.

    Folding a template gives the template.
    """
    first_line = next((part for part in line[:_MAX_INPUT_CHARS].splitlines() if part.strip()), "")
    template = "".join(char if char.isprintable() else " " for char in _COLOUR.sub("", first_line))
    for pattern, mark in _MARKS:
        template = pattern.sub(mark, template)
    return _clip(template.strip())


def _clip(template: str) -> str:
    """Cut at a word where there is one near, so that no mark is cut in two."""
    if len(template) <= MAX_TEMPLATE_CHARS:
        return template
    cut = template[: MAX_TEMPLATE_CHARS - 1]
    mark_start = cut.rfind("<")
    if mark_start > cut.rfind(">"):
        cut = cut[:mark_start]
    return cut.rstrip() + "…"
