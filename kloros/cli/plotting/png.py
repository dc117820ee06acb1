"""The picture as a PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kloros.cli.plotting.lanes import Lane, Picture
from kloros.cli.units import moment
from kloros.errors import PictureImpossible

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WIDTH, LANE, TOP, LEFT, RIGHT, BOTTOM = 1400, 34, 64, 250, 30, 56
INK, PAPER, FAINT = "#1f2430", "#ffffff", "#d8dce3"
COLOURS = {
    "trigger": "#2f7fd1",
    "injected": "#7a5fd0",
    "fallback": "#e08a1e",
    "failed": "#c9302c",
    "skipped": "#9aa3b2",
}
_TICKS = 8


def save(picture: Picture, path: Path) -> None:
    """Write it. Raises PictureImpossible when Pillow is not installed, or the file cannot be written."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        cure = "install it with pip install 'kloros[plot]', or leave out --png to see it here"
        raise PictureImpossible(path=path, reason=f"PNG files need the package Pillow; {cure}") from error
    height = TOP + LANE * max(1, len(picture.lanes)) + BOTTOM
    image = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(size=14)
    draw.text((LEFT, 14), picture.title, fill=INK, font=ImageFont.load_default(size=18))
    _axis(draw, picture, height)
    for number, lane in enumerate(picture.lanes):
        _lane(draw, lane, picture, TOP + number * LANE)
    _legend(draw, height)
    try:
        image.save(path, format="PNG", optimize=True)
    except OSError as error:
        raise PictureImpossible(path=path, reason=error.strerror or str(error)) from error


def _x(at_us: int, picture: Picture) -> float:
    share = (at_us - picture.from_us) / max(1, picture.to_us - picture.from_us)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _axis(draw: ImageDraw, picture: Picture, height: int) -> None:
    for tick in range(_TICKS + 1):
        at_us = picture.from_us + (picture.to_us - picture.from_us) * tick // _TICKS
        x = _x(at_us, picture)
        draw.line((x, TOP - 6, x, height - BOTTOM), fill=FAINT)
        draw.text((x, TOP - 8), moment(at_us / 1e6)[11:], fill=INK, anchor="mb")


def _lane(draw: ImageDraw, lane: Lane, picture: Picture, top: int) -> None:
    middle = top + LANE // 2
    draw.line((LEFT, top + LANE, WIDTH - RIGHT, top + LANE), fill=FAINT)
    draw.text((LEFT - 12, middle), lane.entry, fill=INK, anchor="rm")
    for at_us in lane.skipped:
        if picture.from_us <= at_us <= picture.to_us:
            x = _x(at_us, picture)
            draw.ellipse((x - 2, middle - 2, x + 2, middle + 2), fill=COLOURS["skipped"])
    for span in lane.runs:
        if span.to_us >= picture.from_us and span.from_us <= picture.to_us:
            colour = COLOURS["failed"] if not span.is_ok else COLOURS.get(span.source, COLOURS["trigger"])
            first, last = max(LEFT, _x(span.from_us, picture)), min(WIDTH - RIGHT, _x(span.to_us, picture))
            draw.rectangle((first, middle - 4, max(last, first + 3), middle + 10), fill=colour)
    for at_us in lane.emitted:
        if picture.from_us <= at_us <= picture.to_us:
            x = _x(at_us, picture)
            draw.line((x, middle - 11, x, middle - 1), fill=INK, width=2)


def _legend(draw: ImageDraw, height: int) -> None:
    x, y = LEFT, height - BOTTOM // 2
    draw.line((x, y - 6, x, y + 5), fill=INK, width=2)
    draw.text((x + 8, y), "emitted", fill=INK, anchor="lm")
    words = {
        "trigger": "ran",
        "injected": "injected",
        "fallback": "own clock",
        "failed": "failed",
        "skipped": "skipped",
    }
    for number, (name, word) in enumerate(words.items(), 1):
        left = x + number * 120
        draw.rectangle((left, y - 6, left + 12, y + 6), fill=COLOURS[name])
        draw.text((left + 18, y), word, fill=INK, anchor="lm")
