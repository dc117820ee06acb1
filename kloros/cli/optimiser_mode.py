"""`kloros optimiser mode`: what may be done without a person, by kind, and another mode for one kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.modes import MEANINGS, ModeArgument, require_mode, shown_mode
from kloros.cli.output import JsonOption, as_json, say, table

if TYPE_CHECKING:
    from kloros.optimisation.settings import OptimiserSettings

FILE = "optimiser_config.toml"
UNIT = "kloros-optimiser.service"
COLUMNS = ("kind", "mode", "which means", "what it does")
DOES = {
    "tune_threshold": "moves one threshold of the detector for one module",
    "increase_budget": "lets a module's cycles take longer, for a while",
    "reduce_load": "lets a module's schedule entry run at a slower pace, for a while",
    "hot_swap_module": "puts a staged version in force, and restarts the unit",
}


def _complete_kind(incomplete: str) -> list[str]:
    return [name for name in DOES if name.startswith(incomplete.lower())]


def mode(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="A kind of action.", autocompletion=_complete_kind)
    ] = None,
    to: ModeArgument = None,
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
        require_mode(to)
        return _change(path, kind, to, json)
    told = {name: str(getattr(modes, name)) for name in names if kind in (None, name)}
    if json:
        as_json(told)
        return 0
    table(COLUMNS, [(name, shown_mode(each), MEANINGS[each], DOES.get(name, "")) for name, each in told.items()])
    return 0


def settings_in_force() -> OptimiserSettings:
    """The optimiser's settings file, with defaults where it says nothing. Raises ConfigError."""
    from kloros.config import load_or_default
    from kloros.optimisation.settings import OptimiserSettings
    from kloros.place import Place

    return load_or_default(Place.discover().config / FILE, OptimiserSettings)


def _change(path: Path, kind: str, to: str, json: bool) -> int:
    from kloros.cli.settings_edit import have_it_read, set_word
    from kloros.config import load
    from kloros.optimisation.settings import OptimiserSettings
    from kloros.place import Place

    set_word(path, "modes", kind, to)
    load(path, OptimiserSettings)
    if json:
        as_json({"file": str(path), kind: to})
    else:
        say(f"{path}: {kind} is in the mode {to}: {MEANINGS[to]}")
    return have_it_read(UNIT, "the optimiser", is_installed=path.parent == Place.system().config, is_quiet=json)
