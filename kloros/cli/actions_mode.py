"""`kloros actions mode`: in which mode each kind of action is, and another one for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kloros.cli.modes import MEANINGS, ModeArgument, require_mode, shown_mode
from kloros.cli.output import JsonOption, as_json, say, table

FILE = "action_consumer_config.toml"
UNIT = "kloros-action-consumer.service"
COLUMNS = ("kind", "mode", ">may take", ">settles in", "targets")


def _complete_kind(incomplete: str) -> list[str]:
    from kloros.consumers.action.settings import KindsSettings

    return [name for name in KindsSettings.__struct_fields__ if name.startswith(incomplete)]


def mode(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="A kind of action.", autocompletion=_complete_kind)
    ] = None,
    to: ModeArgument = None,
    json: JsonOption = False,
) -> int:
    """Show the mode of each kind of action, or write another one for one kind into the settings file."""
    from kloros.config import load_or_default
    from kloros.consumers.action.settings import ActionSettings
    from kloros.place import Place

    path = Place.discover().config / FILE
    kinds = load_or_default(path, ActionSettings).kinds
    names = kinds.__struct_fields__
    if kind is not None and kind not in names:
        raise typer.BadParameter(f"there is no kind {kind!r}; there are {', '.join(names)}")
    if kind is not None and to is not None:
        require_mode(to)
        return _change(path, kind, to, json)
    settings = {name: getattr(kinds, name) for name in names if kind in (None, name)}
    if json:
        as_json(settings)
        return 0
    table(
        COLUMNS,
        [
            (
                name,
                shown_mode(each.mode),
                f"{each.timeout_s:g} s",
                f"{each.settle_s:g} s",
                " ".join(each.targets),
            )
            for name, each in settings.items()
        ],
    )
    return 0


def _change(path: Path, kind: str, to: str, json: bool) -> int:
    from kloros.cli.settings_edit import have_it_read, set_word
    from kloros.config import load
    from kloros.consumers.action.settings import ActionSettings
    from kloros.place import Place

    set_word(path, f"kinds.{kind}", "mode", to)
    load(path, ActionSettings)
    if json:
        as_json({"file": str(path), kind: to})
    else:
        say(f"{path}: {kind} is in the mode {to}: {MEANINGS[to]}")
    is_installed = path.parent == Place.system().config
    return have_it_read(UNIT, "the action consumer", is_installed=is_installed, is_quiet=json)
