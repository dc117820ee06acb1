"""What is to be staged as a version of a module: read, and tried on before anything is kept."""

from __future__ import annotations

from pathlib import Path

import typer

from kloros.cli.module_versions import known_modules, swappable


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
    from kloros.storage.artifacts import MANIFEST, MAX_FILE_BYTES, MAX_FILES, PARAMETERS

    try:
        named = {PARAMETERS: source} if source.is_file() else {each.name: each for each in sorted(source.iterdir())}
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
