"""Packages: a daemon of one's own that runs from a staged version instead of the module as installed.

What is executed are the very bytes that were verified; nothing is read from the disk again. A package counts only where
nobody could have written it but root, or whoever owns the module as installed and runs it: so nobody who has taken over
a daemon can plant code that a unit then executes. What is refused is said, and the module as installed runs.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import stat
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType

from structlog.typing import FilteringBoundLogger

from kloros.errors import ArtifactRefused
from kloros.storage.artifacts import CODE_SUFFIX, Artifact, current_version, is_module_name, verify

CURE = "stage it anew as root (kloros module stage), or go back (kloros module rollback)"
_ROOT = 0


def put_in_force(root: Path, module: str, log: FilteringBoundLogger) -> Artifact | None:
    """Have imports of `module`, and of what its current package holds besides, come from that package.

    Returns the package; None when the module as installed is to run. Never raises: the log says what was refused.
    """
    if not is_module_name(module):
        return None
    try:
        artifact = _current(root, module)
        if artifact is None:
            return None
        compiled = check_code(artifact.name, module, artifact.files, root / artifact.name)
    except ArtifactRefused as refused:
        log.error("package_refused", module=module, reason=str(refused), runs="the module as installed", cure=CURE)
        return None
    sys.meta_path.insert(0, _Package(compiled, artifact.files, root / artifact.name))
    log.info("package_in_force", module=module, artifact=artifact.name, sha256=artifact.sha256)
    return artifact


def check_code(artifact: str, module: str, files: Mapping[str, bytes], folder: Path) -> dict[str, CodeType]:
    """The code of a package by the names of its modules; compiled, not executed.

    Raises:
        ArtifactRefused: It is no Python, lacks the module itself, or has a name that Python or the suite uses.
    """
    compiled = {}
    for name, body in files.items():
        if not name.endswith(CODE_SUFFIX):
            continue
        stem = name.removesuffix(CODE_SUFFIX)
        if not stem.isidentifier() or stem in sys.stdlib_module_names or stem == "kloros":
            raise ArtifactRefused(artifact=artifact, reason=f"{name} is no name for a module of a package")
        try:
            compiled[stem] = compile(body, str(folder / name), "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ArtifactRefused(artifact=artifact, reason=f"{name} is no Python: {error}") from error
    if module not in compiled:
        raise ArtifactRefused(artifact=artifact, reason=f"it has no {module}{CODE_SUFFIX}")
    return compiled


def owners_of(module: str) -> Collection[int]:
    """Who may stage code for a module: root, and we ourselves where the module as installed is ours alone."""
    spec = PathFinder.find_spec(module)
    if spec is None or not spec.has_location or spec.origin is None:
        return {_ROOT}
    try:
        installed = Path(spec.origin).stat()
    except OSError:
        return {_ROOT}
    is_ours = installed.st_uid == os.geteuid() and not installed.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return {_ROOT, os.geteuid()} if is_ours else {_ROOT}


def _current(root: Path, module: str) -> Artifact | None:
    version = current_version(root, module)
    if version is None:
        return None
    artifact = verify(root, module, version, owners=owners_of(module))
    return artifact if artifact.holds_code else None


class _Package(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds and loads the modules of one package from memory."""

    def __init__(self, compiled: Mapping[str, CodeType], files: Mapping[str, bytes], folder: Path) -> None:
        self._compiled, self._files, self._folder = compiled, files, folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in self._compiled else None

    def get_code(self, fullname: str) -> CodeType:
        return self._compiled[fullname]

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._files[fullname + CODE_SUFFIX])

    def get_filename(self, fullname: str) -> str:
        return str(self._folder / (fullname + CODE_SUFFIX))
