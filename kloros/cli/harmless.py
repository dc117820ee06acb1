"""What others wrote, made fit for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kloros.cli.output import Row, bare, one_line, style_of, styled

if TYPE_CHECKING:
    from rich.text import Text

MOST_CHARS = 1_000


def harmless(text: str) -> str:
    """The text on one line, however much of it a person can read there."""
    return one_line(text, MOST_CHARS)


def harmless_row(row: Row) -> Row:
    """Cells of a table, each in its style."""
    return [_harmless_cell(cell) for cell in row]


def harmless_rows(rows: Sequence[Row]) -> list[Row]:
    """All rows of a table."""
    return [harmless_row(row) for row in rows]


def _harmless_cell(cell: str) -> str:
    style, text = style_of(cell), harmless(bare(cell))
    return styled(text, style) if style else text


def harmless_text(text: Text) -> Text:
    """The same text, a space for each character that could move a cursor or break the line: styles keep their place."""
    if not text.plain.isprintable():
        text.plain = "".join(each if each.isprintable() else " " for each in text.plain)
    return text
