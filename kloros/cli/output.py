"""Output for people and for pipes: tables with colour on a terminal, aligned plain text or JSON elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

GAP = "  "
LEAST_WORDY_WIDTH = 16

Row = Sequence[str]
"""Cells as text; on a terminal a cell may carry a style as `[style]text`, see `styled`."""


def styled(text: str, style: str) -> str:
    """A cell, or a line, that has a colour on a terminal and is bare text elsewhere."""
    return f"\x1f{style}\x1f{text}"


def one_line(text: str, most: int = 240) -> str:
    """What somebody wrote, as part of a line: nothing in it that could move a cursor or break the line."""
    plain = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def bare(cell: str) -> str:
    """The cell's text without its style."""
    return cell.rpartition("\x1f")[2]


def unmoving(text: str) -> str:
    """The text, a space for each character that could move a cursor or break the line."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def style_of(cell: str) -> str:
    """The cell's style, empty when it has none."""
    return cell.split("\x1f")[1] if cell.startswith("\x1f") else ""


def console() -> Console:
    """The terminal. A reader that has gone raises BrokenPipeError, as printing does."""
    from rich.console import Console

    class _Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return _Terminal(highlight=False, soft_wrap=False)


def say(line: str) -> None:
    """One line, written out at once. It may be `styled`."""
    if (style := style_of(line)) and sys.stdout.isatty():
        from rich.text import Text

        console().print(Text(unmoving(bare(line)), style))
    else:
        print(unmoving(bare(line)), flush=True)


def table(columns: Sequence[str], rows: Iterable[Row], *, wordy: int = 1, spare: Sequence[str] = ()) -> None:
    """A table. A column whose name begins with `>` is set flush right.

    On a narrow terminal the last `wordy` columns fold, and those of `spare` are left out as needed, first ones first.
    """
    rows = [[_unmoving_cell(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        terminal = console()
        shown = columns_that_fit(columns, rows, terminal.width, wordy, spare)
        terminal.print(rich_table(columns, rows, shown, wordy))
    else:
        for line in plain_table(columns, rows):
            print(line)


def _unmoving_cell(cell: str) -> str:
    style, text = style_of(cell), unmoving(bare(cell))
    return styled(text, style) if style else text


def columns_that_fit(
    columns: Sequence[str], rows: Sequence[Row], width: int, wordy: int = 0, spare: Sequence[str] = ()
) -> list[int]:
    """Which columns to show in a terminal that wide; never one without a word in it."""
    shown = [index for index in range(len(columns)) if any(bare(row[index]) for row in rows)]
    natural = {index: max(len(columns[index].strip(">")), *(len(bare(row[index])) for row in rows)) for index in shown}
    for index in range(len(columns) - wordy, len(columns)):
        if index in natural:
            natural[index] = min(natural[index], LEAST_WORDY_WIDTH)
    for name in spare:
        if sum(natural[index] + len(GAP) for index in shown) - len(GAP) <= width:
            break
        shown = [index for index in shown if columns[index] != name]
    return shown


def plain_table(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The table as aligned lines: no box, no colour, nothing cut off."""
    cells = [[column.removeprefix(">").upper() for column in columns], *([bare(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    is_right = [column.startswith(">") for column in columns]
    return [
        GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_right, strict=True)
        ).rstrip()
        for row in cells
    ]


def rich_table(columns: Sequence[str], rows: Sequence[Row], shown: Sequence[int], wordy: int) -> Table:
    """The table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), header_style="bold")
    for index in shown:
        justify: Literal["left", "right"] = "right" if columns[index].startswith(">") else "left"
        folds = index >= len(columns) - wordy
        grid.add_column(columns[index].removeprefix(">"), justify=justify, no_wrap=not folds, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(bare(row[index]), style_of(row[index])) for index in shown))
    return grid


def as_json(value: object) -> None:
    """`value`, anything msgspec encodes, as indented JSON."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(_spelled_out(value), enc_hook=str), indent=2).decode())


def _spelled_out(value: object) -> object:
    """The value with every field in it, also those that the wire leaves out because they have their default."""
    import msgspec

    if isinstance(value, msgspec.Struct):
        return {name: _spelled_out(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: _spelled_out(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled_out(inner) for inner in value]
    return value


def json_line(value: object) -> None:
    """`value` as one line of JSON, written out at once."""
    import msgspec

    print(msgspec.json.encode(value).decode(), flush=True)
