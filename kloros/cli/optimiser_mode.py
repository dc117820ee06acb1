"""`kloros optimiser mode`: what may be done without a person, by kind, and another mode for one kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, as_json, say, styled, table

if TYPE_CHECKING:
    from kloros.optimisation.settings import OptimiserSettings

FILE = "optimiser_config.toml"
UNIT = "kloros-optimiser.service"
COLUMNS = ("kind", "mode", "which means", "what it does")
MODE_STYLES = {"auto": "bold yellow", "approve": "yellow"}
MEANINGS = {
    "off": "never, and nothing is said", "observe": "it is only said what would be done",
    "approve": "a person must agree first", "auto": "it is done, verified, and taken back when it does not help",
}  # fmt: skip
DOES = {
    "tune_threshold": "moves one threshold of the detector for one module",
    "increase_budget": "lets a module's cycles take longer, for a while",
    "reduce_load": "lets a module's schedule entry run at a slower pace, for a while",
    "hot_swap_module": "puts a staged version in force, and restarts the unit",
}


def _complete_kind(incomplete: str) -> list[str]:
    return [name for name in DOES if name.startswith(incomplete.lower())]


def _complete_mode(incomplete: str) -> list[str]:
    return [name for name in MEANINGS if name.startswith(incomplete)]


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
    """Show the mode of each kind of action, or switch one kind to another: in the settings file, and at once."""
    from kloros.place import Place

    path = Place.discover().config / FILE
    modes = settings_in_force().modes
    names = modes.__struct_fields__
    kind = None if kind is None else kind.lower()
    if kind is not None and kind not in names:
        raise typer.BadParameter(f"there is no kind {kind!r}; there are {', '.join(names)}")
    if kind is not None and to is not None:
        if to not in MEANINGS:
            raise typer.BadParameter(f"{to!r} is no mode; there are {', '.join(MEANINGS)}")
        return _change(path, kind, to, json)
    told = {name: str(getattr(modes, name)) for name in names if kind in (None, name)}
    if json:
        as_json(told)
        return 0
    table(COLUMNS, [(name, _shown(each), MEANINGS[each], DOES.get(name, "")) for name, each in told.items()])
    return 0


def settings_in_force() -> OptimiserSettings:
    """The optimiser's settings file, with defaults where it says nothing. Raises ConfigError."""
    from kloros.config import load_or_default
    from kloros.optimisation.settings import OptimiserSettings
    from kloros.place import Place

    return load_or_default(Place.discover().config / FILE, OptimiserSettings)


def _change(path: Path, kind: str, to: str, json: bool) -> int:
    from kloros.cli.settings_edit import have_it_read, with_word, write_whole
    from kloros.config import load
    from kloros.errors import ConfigError
    from kloros.optimisation.settings import OptimiserSettings
    from kloros.place import Place

    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        changed = with_word(text, "modes", kind, to)
        if changed != text:
            write_whole(path, changed)
    except ValueError as error:
        raise ConfigError(file=path, key=f"modes.{kind}", found=str(error), expected="an edit by hand") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(file=path, key="(file)", found=reason, expected="a file that you may write") from error
    load(path, OptimiserSettings)
    if json:
        as_json({"file": str(path), kind: to})
    else:
        say(f"{path}: {kind} is in the mode {to}: {MEANINGS[to]}")
    return have_it_read(UNIT, "the optimiser", is_installed=path.parent == Place.system().config, is_quiet=json)


def _shown(each: str) -> str:
    return styled(each, MODE_STYLES[each]) if each in MODE_STYLES else each
