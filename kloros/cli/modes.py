"""Modes, as a person sees and chooses them: how far the suite may go by itself with a kind of action or of change."""

from __future__ import annotations

from typing import Annotated

import typer

from kloros.cli.output import styled

MEANINGS = {
    "off": "never, and nothing is said", "observe": "it is only said what would be done",
    "approve": "a person must agree first", "auto": "it is done, verified, and taken back when it does not help",
}  # fmt: skip
_STYLES = {"auto": "bold yellow", "approve": "yellow"}


def _complete(incomplete: str) -> list[str]:
    return [name for name in MEANINGS if name.startswith(incomplete)]


ModeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODE]",
        help="off (never), observe (only say it), approve (ask first) or auto.",
        autocompletion=_complete,
    ),
]


def require_mode(word: str) -> None:
    """Raises typer.BadParameter."""
    if word not in MEANINGS:
        raise typer.BadParameter(f"{word!r} is no mode; there are {', '.join(MEANINGS)}")


def shown_mode(mode: str) -> str:
    """Those that let something happen stand out."""
    return styled(mode, _STYLES[mode]) if mode in _STYLES else mode
