"""Lines of text for a screen of a given size: columns, two halves side by side, sections that share what room there is.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.text import Text

from kloros.cli.harmless import harmless_text
from kloros.cli.output import GAP, Row, bare, columns_that_fit, style_of


def one_line(text: Text, width: int) -> Text:
    """The text on one line, cut off with an ellipsis. Every line passes through here."""
    harmless_text(text)
    text.no_wrap, text.overflow = True, "ellipsis"
    text.truncate(max(1, width), overflow="ellipsis")
    return text


def columns(heads: Sequence[str], rows: Sequence[Row], width: int, spare: Sequence[str] = ()) -> list[Text]:
    """A head and a line for each row. A head that begins with `>` is flush right; the last column gives way first, then
    those of `spare` are left out."""
    shown = columns_that_fit(heads, rows, width, 1, spare)
    widths = {i: max(len(heads[i].lstrip(">")), *(len(bare(row[i])) for row in rows)) for i in shown}
    lines = [_joined([heads[i].lstrip(">") for i in shown], shown, heads, widths, "dim")]
    lines += [_joined([row[i] for i in shown], shown, heads, widths) for row in rows]
    return [one_line(line, width) for line in lines]


def _joined(cells: Sequence[str], shown: Sequence[int], heads: Sequence[str], widths: dict[int, int],
            style: str = "") -> Text:  # fmt: skip
    line = Text(style=style)
    for number, (cell, index) in enumerate(zip(cells, shown, strict=True)):
        text = bare(cell)
        padded = text.rjust(widths[index]) if heads[index].startswith(">") else text.ljust(widths[index])
        line.append(GAP if number else "")
        line.append(padded, style_of(cell))
    line.rstrip()
    return line


def rule(title: str, width: int) -> Text:
    """A title and a thin line."""
    line = Text.assemble((title, "bold"), " ", ("─" * max(0, width - len(title) - 1), "dim"))
    return one_line(line, width)


def beside(left: Sequence[Text], right: Sequence[Text], left_width: int, width: int) -> list[Text]:
    """Two halves of a screen."""
    lines = []
    for one, other in zip_longest(left, right):
        line = Text() if one is None else one.copy()
        if other is not None:
            line.truncate(left_width, overflow="ellipsis", pad=True)
            # A style of the whole left line must not reach into the right half.
            line = Text.assemble(line, "   ", other)
        lines.append(one_line(line, width))
    return lines


@dataclass(frozen=True)
class Section:
    """A part of the screen: `lines(room)` are at most `room` lines. `sizes`: the heights that make sense, least first.

    A section of one line has its title on that line.
    """

    title: str
    sizes: Sequence[int]
    lines: Callable[[int], list[Text]]

    def cost(self, size: int) -> int:
        """How many lines it takes with its title."""
        return size if size <= 1 else size + 1

    def drawn(self, size: int, width: int) -> list[Text]:
        """Title and lines."""
        lines = self.lines(size)[:size]
        if size == 1 and lines:
            return [one_line(Text.assemble((f"{self.title}  ", "bold"), lines[0]), width)]
        return [rule(self.title, width), *(one_line(line, width) for line in lines)] if lines else []


def share(sections: Sequence[Section], room: int) -> list[int]:
    """How many lines each section gets: each its least, as long as that fits, then the first ones as much as they can
    use. 0: there is no room for it."""
    given: list[int] = []
    for section in sections:
        least = section.sizes[0]
        fits = section.cost(least) <= room
        given.append(least if fits else 0)
        room -= section.cost(least) if fits else 0
    for number, section in enumerate(sections):
        if given[number]:
            before = section.cost(given[number])
            given[number] = max(size for size in section.sizes if section.cost(size) - before <= room)
            room -= section.cost(given[number]) - before
    return given
