"""What is to be staged as a version of a module: read, and tried on before anything is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kloros.cli.module_versions import as_owner, is_system, known_modules, root_of_artifacts, swappable

if TYPE_CHECKING:
    from kloros.storage.artifacts import Artifact

_PYTHONS_OWN = "__pycache__"


def require_module(module: str) -> None:
    """Raises typer.BadParameter for a module that could never run with it."""
    known = known_modules()
    if module not in known:
        raise typer.BadParameter(
            f"{module!r} is not among the modules that may be swapped ({', '.join(known)}); "
            f"[hot_swap] modules in optimiser_config.toml names them"
        )


def read_files(source: Path) -> dict[str, bytes]:
    """The files of a version: a TOML file is its parameters, a folder is all that is in it."""
    from kloros.errors import ArtifactRefused
    from kloros.storage.artifacts import CODE_SUFFIX, MANIFEST, MAX_FILE_BYTES, MAX_FILES, PARAMETERS

    try:
        if source.is_file():
            named = {source.name if source.suffix == CODE_SUFFIX else PARAMETERS: source}
        else:
            named = {each.name: each for each in sorted(source.iterdir()) if each.name != _PYTHONS_OWN}
        named.pop(MANIFEST, None)  # it is made anew
        files = {}
        for name, path in named.items():
            if path.is_symlink() or not path.is_file():
                raise ArtifactRefused(artifact=str(source), reason=f"{name} is no plain file")
            if len(named) > MAX_FILES or path.stat().st_size > MAX_FILE_BYTES:
                most = f"{MAX_FILES} files of at most {MAX_FILE_BYTES} bytes"
                raise ArtifactRefused(artifact=str(source), reason=f"{name} is too much: {most} are allowed")
            files[name] = path.read_bytes()
    except OSError as error:
        raise ArtifactRefused(artifact=str(source), reason=error.strerror or str(error)) from error
    return files


def check_parameters(module: str, body: bytes, source: Path) -> None:
    """That the module would take them: as its settings file with these laid over it. Raises ConfigError."""
    import tempfile
    import tomllib

    import tomli_w

    from kloros.cli.config import READERS
    from kloros.config import read_toml
    from kloros.consumers.candidates.current import merged
    from kloros.errors import ConfigError
    from kloros.place import Place

    try:
        tables = tomllib.loads(body.decode())
    except ValueError as error:
        told = f"text that is not TOML ({error})"
        raise ConfigError(file=source, key="(file)", found=told, expected="TOML") from error
    name = f"{swappable().get(module, module)}_config.toml"
    if (reader := READERS.get(name)) is None:
        return  # a module of somebody's own: it looks at them itself
    own = Place.discover().config / name
    below = read_toml(own) if own.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / name
        trial.write_text(tomli_w.dumps(merged(below, tables)), encoding="utf-8")
        try:
            reader(trial)
        except ConfigError as error:
            raise ConfigError(file=source, key=error.key, found=error.found, expected=error.expected) from error


def check_package(module: str, files: dict[str, bytes], source: Path) -> None:
    """That its daemon would take it; nothing of it is executed. Raises typer.BadParameter, ArtifactRefused."""
    from kloros.cli.optimiser_mode import settings_in_force
    from kloros.daemon.packages import check_code
    from kloros.optimisation.swap import may_run_packages

    settings = settings_in_force().hot_swap
    if not may_run_packages(settings, module):
        stem = settings.modules.get(module, module)
        raise typer.BadParameter(
            f"only a daemon of your own runs staged code, and {module} is not known as one: under [hot_swap.units] in "
            f'optimiser_config.toml write {stem} = "kloros-consumer@{module}:YourClass.service"'
        )
    check_code(str(source), module, files, source)


def keep(module: str, version: str, files: dict[str, bytes], about: dict[str, str]) -> Artifact:
    """Stage it: parameters as whoever owns the artifacts, code as ourselves. Raises StoreUnusable, ArtifactRefused."""
    from kloros.errors import StoreUnusable
    from kloros.storage import artifacts

    root = root_of_artifacts()
    if not artifacts.holds_code(files):
        with as_owner():
            return artifacts.stage(root, module, version, files, about)
    if is_system() and os.geteuid() != 0:
        raise StoreUnusable(path=root, reason="code is staged by root; what others could write, no daemon executes")
    with as_owner():
        artifacts.make_room(root, module)
    return artifacts.stage(root, module, version, files, about)


def name_of(files: dict[str, bytes]) -> str:
    """By the content: the same is called the same."""
    import hashlib

    from kloros.consumers.candidates.identity import version_of
    from kloros.storage.artifacts import PARAMETERS

    if set(files) == {PARAMETERS}:
        return version_of(files[PARAMETERS].decode())
    told = hashlib.sha256()
    for name, body in sorted(files.items()):
        told.update(f"{name}|{hashlib.sha256(body).hexdigest()}|".encode())
    return f"m-{told.hexdigest()[:12]}"
