"""`kloros config`: check the settings, and show those in force."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kloros.cli.output import JsonOption, as_json, say, styled

if TYPE_CHECKING:
    from kloros.config import Settings

app = typer.Typer(help="Check the settings, and show those in force.", rich_markup_mode=None, no_args_is_help=True)

SCHEDULER_FILE = "scheduler_config.toml"
EXIT_BAD_CONFIG = 2


def _reader(module: str, name: str) -> Callable[[Path], Settings]:
    def read(path: Path) -> Settings:
        from kloros.config import load_or_default

        shape: type[Settings] = getattr(import_module(module), name)
        return load_or_default(path, shape)

    return read


def _schedule(path: Path) -> Settings:
    """The schedule as written, once the scheduler's own reader has found nothing wrong with it."""
    from kloros.config import load
    from kloros.orchestration.schedule_config import load_schedule
    from kloros.orchestration.schedule_settings import ScheduleFile

    load_schedule(path)
    return load(path, ScheduleFile)


_OF_CONSUMERS = (
    ("introspection", "introspection.scanners.registry", "IntrospectionSettings"),
    ("chembus_historian", "history.settings", "HistorianSettings"),
    ("ledger_writer", "ledger.recorder", "LedgerSettings"),
    ("curiosity_core_consumer", "curiosity.settings", "CuriositySettings"),
    ("semantic_dedup_consumer", "dedup.settings", "DedupSettings"),
    ("investigation_consumer", "investigation.settings", "InvestigationSettings"),
    ("action_consumer", "action.settings", "ActionSettings"),
    ("shadow", "candidates.shadow_settings", "ShadowSettings"),
    ("tournament_consumer", "candidates.tournament_settings", "TournamentSettings"),
    ("decay", "memory.settings", "MemorySettings"),
)
READERS: dict[str, Callable[[Path], Settings]] = {
    "kloros.toml": _reader("kloros.daemon.suite_settings", "SuiteSettings"),
    SCHEDULER_FILE: _schedule,
    "optimiser_config.toml": _reader("kloros.optimisation.settings", "OptimiserSettings"),
    "helper_policy.toml": _reader("kloros.machine.privileged_policy", "HelperPolicy"),
    "affect_config.toml": _reader("kloros.affect.settings", "AffectSettings"),
    **{f"{stem}_config.toml": _reader(f"kloros.consumers.{module}", name) for stem, module, name in _OF_CONSUMERS},
}
"""The one reader of each settings file. The scheduler's must be there; the others have defaults for everything."""


def _complete_file(incomplete: str) -> list[str]:
    return [name for name in READERS if name.startswith(incomplete)]


@app.command()
def check(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Default: the directory in force.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> int:
    """Read every settings file as its daemon would, and tell all that is wrong. Exit code 2 when something is."""
    from kloros.errors import ConfigError

    directory = directory or _config_dir()
    if not directory.is_dir():
        raise ConfigError(file=directory, key="(directory)", found="nothing there", expected="a directory of settings")
    verdicts = [(name, _verdict(read, directory / name)) for name, read in READERS.items()]
    strangers = sorted(path.name for path in directory.glob("*.toml") if path.name not in READERS)
    is_good = all(verdict is None for _, verdict in verdicts)
    if json:
        as_json({"directory": str(directory), "ok": is_good, "files": dict(verdicts), "unknown": strangers})
        return 0 if is_good else EXIT_BAD_CONFIG
    for name, verdict in verdicts:
        if verdict is None:
            shown = "good" if (directory / name).exists() else "not there, the defaults hold"
            say(styled(f"{directory / name}: {shown}", "green"))
        else:
            print(f"kloros: {verdict}", file=sys.stderr)
    for name in strangers:
        say(styled(f"{directory / name}: no daemon of the suite reads this", "yellow"))
    return 0 if is_good else EXIT_BAD_CONFIG


@app.command()
def dump(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]", help="One file, for instance kloros.toml; default: all.", autocompletion=_complete_file
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Print the settings in force, defaults included, as TOML."""
    import msgspec

    directory = _config_dir()
    effective = {each: msgspec.to_builtins(READERS[each](directory / each)) for each in _chosen(name)}
    if json:
        as_json(effective)
        return 0
    import tomli_w

    for index, (each, settings) in enumerate(effective.items()):
        if index:
            print()
        path = directory / each
        print(f"# {path}" if path.exists() else f"# {path} is not there: the defaults")
        print(tomli_w.dumps(without_nothing(settings)), end="")
    return 0


def without_nothing(value: Any) -> Any:
    """The tables without keys that hold None, which TOML cannot write: leaving them out means the same. Pure."""
    if isinstance(value, dict):
        return {key: without_nothing(inner) for key, inner in value.items() if inner is not None}
    return value


def _verdict(read: Callable[[Path], Settings], path: Path) -> str | None:
    from kloros.errors import KlorosError

    try:
        read(path)
    except KlorosError as error:
        return str(error)
    return None


def _chosen(name: str | None) -> list[str]:
    if name is None:
        return list(READERS)
    matches = [
        each for each in READERS if name in (each, each.removesuffix(".toml"), each.removesuffix("_config.toml"))
    ]
    if not matches:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(READERS)}")
    return matches


def _config_dir() -> Path:
    from kloros.place import Place

    return Place.discover().config
