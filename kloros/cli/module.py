"""`kloros module`: staged versions of what modules run with, and which of them is in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.module_swap import AS_INSTALLED, EXIT_NOT_DONE, propose, set_pointer
from kloros.cli.module_versions import (
    Listed,
    code_owners,
    current_of,
    known_modules,
    listed,
    readable,
    root_of_artifacts,
    version_before,
    versions,
)
from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.stored import one_of
from kloros.cli.units import moment

if TYPE_CHECKING:
    from kloros.storage.artifacts import Artifact

app = typer.Typer(
    help="Stage versions of what a module runs with, and put one of them in force.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

COLUMNS = ("module", "version", "state", "staged", "shadow says", "files", "SHA-256", "about")


def _complete_module(incomplete: str) -> list[str]:
    """Never fails: a shell waits for it."""
    from kloros.errors import KlorosError

    try:
        return [name for name in known_modules() if name.startswith(incomplete)]
    except (KlorosError, OSError):
        return []


def _complete_version(context: typer.Context, incomplete: str) -> list[str]:
    try:
        return [each for each in versions(context.params.get("module") or "") if each.startswith(incomplete)]
    except OSError:
        return []


ModuleArgument = Annotated[str, typer.Argument(metavar="MODULE", autocompletion=_complete_module, help="Which one.")]
VersionArgument = Annotated[
    str,
    typer.Argument(metavar="VERSION", autocompletion=_complete_version, help="A staged version, or how it begins."),
]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
DirectOption = Annotated[
    bool,
    typer.Option("--direct", help="Set the pointer yourself, past the optimiser: nobody verifies it or takes it back."),
]


@app.command()
def stage(
    module: ModuleArgument,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", exists=True, help="A TOML file of settings; a Python file, or a folder of them."
        ),
    ],
    version: Annotated[
        str | None, typer.Option("--version", metavar="NAME", help="Its name; default: by its content.")
    ] = None,
    about: Annotated[str | None, typer.Option("--about", metavar="TEXT", help="What it is, for whoever looks.")] = None,
    json: JsonOption = False,
) -> int:
    """Stage a version, with the SHA-256 of each file in a manifest; nothing runs with it yet.

    Code is for daemons of your own (`kloros consume`), and is staged by root.
    """
    from kloros.cli.client import requester
    from kloros.cli.module_staging import check_package, check_parameters, keep, name_of, read_files, require_module
    from kloros.storage import artifacts

    require_module(module)
    files = read_files(source)
    if artifacts.PARAMETERS in files:
        check_parameters(module, files[artifacts.PARAMETERS], source)
    if artifacts.holds_code(files):
        check_package(module, files, source)
    told = {"by": requester(), "from": source.name, **({"about": about} if about else {})}
    staged = keep(module, version or name_of(files), files, told)
    if json:
        as_json(next(each for each in listed(module) if each.version == staged.version))
        return 0
    count = "1 file" if len(staged.files) == 1 else f"{len(staged.files)} files"
    say(styled(f"{staged.name} is staged: {count}, SHA-256 of the manifest {staged.sha256}", "green"))
    say(f"to put it in force: kloros module activate {module} {staged.version}")
    return 0


@app.command(name="list")
def list_(
    module: Annotated[
        str | None, typer.Argument(metavar="[MODULE]", autocompletion=_complete_module, help="Only of this one.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """List staged versions, the newest first, and what is in force; each is verified against its manifest."""
    names = known_modules() if module is None else [module]
    found = [each for name in names for each in listed(name)]
    in_force = {name: current_of(name) for name in names}
    if json:
        as_json({"in_force": in_force, "versions": found})
        return 0
    if found:
        table(COLUMNS, [_row(each) for each in found], spare=("SHA-256", "files", "staged"))
    for name, current in in_force.items():
        say(f"{name} runs with {current or AS_INSTALLED}")
    return 0


@app.command()
def activate(
    module: ModuleArgument,
    version: VersionArgument,
    direct: DirectOption = False,
    reason: ReasonOption = None,
    json: JsonOption = False,
) -> int:
    """Have the optimiser put a staged version in force: on probation, and back by itself when that does not go well.
    Exit code 1 when it was not done, 3 when nobody answers."""
    from kloros.storage import artifacts

    with readable():
        whole = one_of(version, versions(module), "staged version")
        artifact = artifacts.verify(root_of_artifacts(), module, whole, owners=code_owners())
    before = current_of(module)
    if before == whole:
        return _say_in_force(module, artifact, json)
    if direct:
        return set_pointer(module, artifact, before, json)
    return propose(artifact, reason or f"{module} is to run with {whole}", json)


@app.command()
def rollback(
    module: ModuleArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="VERSION", autocompletion=_complete_version,
            help="Default: what was in force before the current one.",
        ),
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="To the settings file alone, without any staged version.")
    ] = False,
    direct: DirectOption = False,
    reason: ReasonOption = None,
    json: JsonOption = False,
) -> int:  # fmt: skip
    """Put back what was in force before the current version, or another one. Exit codes as those of activate."""
    from kloros.storage import artifacts

    with readable():
        current = artifacts.current_version(root_of_artifacts(), module)
        if current is None:
            return _say_in_force(module, None, json)
        named = one_of(to, versions(module), "staged version") if to else ""
        wanted = "" if installed else named or version_before(module, current)
        artifact = artifacts.verify(root_of_artifacts(), module, wanted, owners=code_owners()) if wanted else None
    if direct:
        return set_pointer(module, artifact, current, json)
    if artifact is None:
        typer.echo(
            f"kloros: {module} is to run with {AS_INSTALLED}: no staged version that the optimiser could try. "
            f"Past it: kloros module rollback {module} --installed --direct",
            err=True,
        )
        return EXIT_NOT_DONE
    return propose(artifact, reason or f"{module} is to run with {wanted} again, not with {current}", json)


def _say_in_force(module: str, artifact: Artifact | None, json: bool) -> int:
    """It is as it was wanted to be, and nothing was done; returns the exit code."""
    if json:
        as_json({"module": module, "artifact": artifact.name if artifact else None, "done": False})
    elif artifact is not None:
        say(f"{module} runs with {artifact.version} already")
    else:
        say(f"{module} runs with {AS_INSTALLED}: there is nothing to take back")
    return 0


def _row(each: Listed) -> Row:
    state = styled("in force", "green") if each.is_in_force else "staged"
    if each.damage:
        state = styled("in force, damaged" if each.is_in_force else "damaged", "bold red")
    about = " ".join(f"{name}={value}" for name, value in each.about.items())
    return (
        each.module, each.version, state, moment(each.staged_ts), each.verdict or "-", str(len(each.files) or "-"),
        (each.sha256 or "-")[:12], each.damage or about,
    )  # fmt: skip
