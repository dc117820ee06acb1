"""`kloros actions mode`: in which mode each kind of action is, and another one for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kloros.cli.output import JsonOption, as_json, say, styled, table

FILE = "action_consumer_config.toml"
UNIT = "kloros-action-consumer.service"
COLUMNS = ("kind", "mode", ">may take", ">settles in", "targets")
MODE_STYLES = {"auto": "bold yellow", "approve": "yellow"}


def _complete_kind(incomplete: str) -> list[str]:
    from kloros.consumers.action.settings import KindsSettings

    return [name for name in KindsSettings.__struct_fields__ if name.startswith(incomplete)]


def _complete_mode(incomplete: str) -> list[str]:
    return [name for name in ("off", "observe", "approve", "auto") if name.startswith(incomplete)]


def mode(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="A kind of action.", autocompletion=_complete_kind)
    ] = None,
    to: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODE]",
            help="off (never), observe (only say it), approve (ask first) or auto.",
            autocompletion=_complete_mode,
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Show the mode of each kind of action, or write another one for one kind into the settings file."""
    from kloros.config import load_or_default
    from kloros.consumers.action.settings import MODES, ActionSettings
    from kloros.place import Place

    path = Place.discover().config / FILE
    kinds = load_or_default(path, ActionSettings).kinds
    names = kinds.__struct_fields__
    if kind is not None and kind not in names:
        raise typer.BadParameter(f"there is no kind {kind!r}; there are {', '.join(names)}")
    if kind is not None and to is not None:
        if to not in MODES:
            raise typer.BadParameter(f"{to!r} is no mode; there are {', '.join(MODES)}")
        return _change(path, kind, to)
    settings = {name: getattr(kinds, name) for name in names if kind in (None, name)}
    if json:
        as_json(settings)
        return 0
    table(
        COLUMNS,
        [
            (
                name,
                styled(each.mode, MODE_STYLES[each.mode]) if each.mode in MODE_STYLES else each.mode,
                f"{each.timeout_s:g} s",
                f"{each.settle_s:g} s",
                " ".join(each.targets),
            )
            for name, each in settings.items()
        ],
    )
    return 0


def _change(path: Path, kind: str, to: str) -> int:
    from kloros.cli.settings_edit import have_it_read, write_whole
    from kloros.config import load
    from kloros.consumers.action.mode_edit import with_mode
    from kloros.consumers.action.settings import ActionSettings
    from kloros.errors import ConfigError
    from kloros.place import Place

    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        changed = with_mode(text, kind, to)  # type: ignore[arg-type]  # one of MODES, as was looked at
        if changed != text:
            write_whole(path, changed)
    except ValueError as error:
        raise ConfigError(file=path, key=f"kinds.{kind}.mode", found=str(error), expected="an edit by hand") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(file=path, key="(file)", found=reason, expected="a file that you may write") from error
    load(path, ActionSettings)
    say(f"{path}: {kind} is in the mode {to}")
    return have_it_read(UNIT, "the action consumer", is_installed=path.parent == Place.system().config)
