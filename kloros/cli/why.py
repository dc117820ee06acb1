"""`kloros why`: why a beat ran when it did, or why it did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.names import complete_schedule
from kloros.cli.output import JsonOption, as_json, say, styled

if TYPE_CHECKING:
    from kloros.cli.proving.story import BeatStory


def why(
    beat: Annotated[
        str,
        typer.Argument(
            metavar="ENTRY@WHEN",
            help="An entry and a moment: curiosity_generation@16:31; without @WHEN its latest beat.",
            autocompletion=complete_schedule,
        ),
    ],
    json: JsonOption = False,
) -> int:
    """Explain a beat: when it was due and why then, whether it was emitted, who ran it, and why not."""
    from kloros.cli.moments import parse_moment
    from kloros.cli.proving.story import story_of
    from kloros.clock import SystemClock
    from kloros.place import Place

    entry, at, when = beat.partition("@")
    now_us = SystemClock().wall_us()
    moment_us = parse_moment(when, now_us) if at else now_us
    story = story_of(Place.discover(), entry, moment_us)
    if json:
        as_json({name: getattr(story, name) for name in story.__struct_fields__})
    else:
        tell(story)
    return 0


def tell(story: BeatStory) -> None:
    """The story as a person reads it."""
    say(styled(story.headline, "bold"))
    for line in story.lines:
        say(f"  {line}")
