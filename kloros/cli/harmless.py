"""What others wrote, made fit for a terminal. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kloros.cli.output import one_line, unmoving

if TYPE_CHECKING:
    from rich.text import Text

MOST_CHARS = 1_000


def harmless(text: str) -> str:
    """The text on one line, however much of it a person can read there."""
    return one_line(text, MOST_CHARS)


def harmless_text(text: Text) -> Text:
    """The same text, a space for each character that could move a cursor or break the line: styles keep their place."""
    if not text.plain.isprintable():
        text.plain = unmoving(text.plain)
    return text
