"""The picture as lines of text: one per entry, one column per slice of time."""

from __future__ import annotations

from collections.abc import Iterable

from kloros.cli.output import styled
from kloros.cli.plotting.lanes import Lane, Picture
from kloros.cli.units import clock_time, duration

LEGEND = ("│ emitted", "█ ran", "▒ ran on its own clock", "x failed", "· due and skipped", "! emitted, not run")
NARROWEST = 20
_STYLES = {"x": "red", "!": "bold red"}


def draw(picture: Picture, width: int) -> list[str]:
    """The lines, a terminal's width wide at most."""
    label = max((len(lane.entry) for lane in picture.lanes), default=5)
    columns = max(NARROWEST, width - label - 2)
    lines = [_ruler(picture, label, columns)]
    lines += [f"{lane.entry:>{label}}  {_lane(lane, picture, columns)}" for lane in picture.lanes]
    slice_s = (picture.to_us - picture.from_us) / columns / 1e6
    return [*lines, *_legend(f"one column: {duration(slice_s)}", label, columns)]


def _legend(scale: str, label: int, columns: int) -> list[str]:
    lines, line = [], ""
    for part in (*LEGEND, scale):
        if line and len(line) + len(part) + 3 > columns:
            lines.append(line)
            line = ""
        line += f"{'   ' if line else ''}{part}"
    return [f"{'':>{label}}  {each}" for each in (*lines, line)]


def _ruler(picture: Picture, label: int, columns: int) -> str:
    named = [clock_time(at_us / 1e6) for at_us in (picture.from_us, picture.to_us)]
    middle = clock_time((picture.from_us + picture.to_us) / 2e6)
    if columns >= 3 * (len(middle) + 1):
        named.insert(1, middle)
    gap = max(1, (columns - sum(map(len, named))) // (len(named) - 1))
    return styled(f"{'':>{label}}  {(' ' * gap).join(named)}", "dim")


def _lane(lane: Lane, picture: Picture, columns: int) -> str:
    cells = [" "] * columns

    def mark(moments_us: Iterable[int], sign: str) -> None:
        for at_us in moments_us:
            cells[_column(at_us, picture, columns)] = sign

    inside = [at_us for at_us in lane.emitted if picture.from_us <= at_us <= picture.to_us]
    mark((at_us for at_us in lane.skipped if picture.from_us <= at_us <= picture.to_us), "·")
    mark(inside, "│")
    if lane.runs:
        ran = {_column(span.from_us, picture, columns) for span in lane.runs}
        near = {column + step for column in ran for step in (-1, 0, 1)}
        mark((at_us for at_us in inside if _column(at_us, picture, columns) not in near), "!")
    for span in lane.runs:
        if span.to_us < picture.from_us or span.from_us > picture.to_us:
            continue
        first, last = _column(span.from_us, picture, columns), _column(span.to_us, picture, columns)
        sign = "x" if not span.is_ok else "▒" if span.source == "fallback" else "█"
        cells[first : last + 1] = [sign] * (last + 1 - first)
    return "".join(cells).rstrip()


def _column(at_us: int, picture: Picture, columns: int) -> int:
    share = (at_us - picture.from_us) / max(1, picture.to_us - picture.from_us)
    return min(columns - 1, max(0, int(share * columns)))
