"""Staged versions of modules: which there are, which is in force, and what was before it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from kloros.cli.optimiser_talk import STEM
from kloros.cli.stored import stored_by

if TYPE_CHECKING:
    from kloros.storage.artifacts import Artifact
    from kloros.storage.snapshot import Snapshot


NOTE = ".before.json"


class Listed(msgspec.Struct, kw_only=True):
    """A staged version. `damage`: why it may not be put in force; `verdict`: the shadow's last word on it."""

    module: str
    version: str
    staged_ts: float
    is_in_force: bool
    damage: str | None = None
    verdict: str | None = None
    sha256: str | None = None
    files: dict[str, int] = {}
    about: dict[str, str] = {}


def root_of_artifacts() -> Path:
    """Where they are."""
    from kloros.place import Place
    from kloros.storage.artifacts import artifacts_under

    return artifacts_under(Place.discover().state)


def is_system() -> bool:
    """Whether this is the installed suite."""
    from kloros.place import Place

    return Place.discover().state == Place.system().state


def swappable() -> dict[str, str]:
    """The modules that may be swapped, each with the daemon that runs it."""
    from kloros.cli.optimiser_mode import settings_in_force

    return settings_in_force().hot_swap.modules


def known_modules() -> list[str]:
    """Those that may be swapped, and those with something staged."""
    root = root_of_artifacts()
    with readable():
        staged = [each.name for each in root.iterdir() if each.is_dir()] if root.is_dir() else []
    return sorted({*swappable(), *staged})


def versions(module: str) -> list[str]:
    """The staged versions, the newest first."""
    from kloros.storage.artifacts import MANIFEST

    folder = root_of_artifacts() / module
    if not module or not folder.is_dir():
        return []
    staged = [each for each in folder.iterdir() if not each.name.startswith(".") and not each.is_symlink()]
    aged = [((each / MANIFEST).stat().st_mtime, each.name) for each in staged if (each / MANIFEST).is_file()]
    return [name for _, name in sorted(aged, reverse=True)]


def code_owners() -> set[int]:
    """Who may have staged code here: root; in a suite of one's own, its owner too."""
    return {0} if is_system() else {0, os.geteuid()}


def current_of(module: str) -> str | None:
    """The version in force; None: the module runs with its settings file alone."""
    from kloros.storage.artifacts import current_version

    with readable():
        return current_version(root_of_artifacts(), module)


def note_before(module: str, version: str, before: str | None) -> None:
    """Keep what was in force before a version that was put in force past the optimiser."""
    with suppress(OSError):  # what is in force matters more than how to go back from it
        noted = msgspec.json.encode({"after": version, "before": before or ""})
        (root_of_artifacts() / module / NOTE).write_bytes(noted)


def version_before(module: str, current: str) -> str:
    """What was noted as in force before the current version; empty: no staged version at all."""
    from kloros.errors import StoreUnusable
    from kloros.optimisation import store

    with suppress(OSError, msgspec.MsgspecError):
        noted = msgspec.json.decode((root_of_artifacts() / module / NOTE).read_bytes(), type=dict[str, str])
        if noted.get("after") == current:
            return noted.get("before", "")
    with suppress(StoreUnusable), stored_by(STEM) as stored:
        changes = [*store.open_changes(stored), *store.ended_changes(stored, 1000)]
        swaps = [each for each in changes if each.module_name == module and each.action_kind == "HOT_SWAP_MODULE"]
        swaps.sort(key=lambda each: each.written_us, reverse=True)
        for each in swaps:
            if each.after == current and not each.is_restored:
                return str(each.before or "")
    raise typer.BadParameter(
        f"it is not known what was in force before {current}; name it (--to VERSION), or take --installed"
    )


def promoted_as(artifact: Artifact) -> str | None:
    """As which candidate the shadow promoted it; None when its last word is another, or there is none."""
    from kloros.errors import StoreUnusable

    with suppress(StoreUnusable), stored_by(STEM) as stored:
        found = _verdicts(stored).get((artifact.name, artifact.sha256))
        return found[1] if found and found[0] == "promote" else None
    return None


def _verdicts(stored: Snapshot) -> dict[tuple[str, str], tuple[str, str]]:
    """By artifact and SHA-256: the shadow's last word, and on which candidate."""
    if not stored.query("SELECT 1 FROM sqlite_master WHERE name = 'verdicts'"):
        return {}
    rows = stored.query("SELECT artifact, sha256, verdict, candidate_id FROM verdicts ORDER BY at_us")
    return {(row[0], row[1]): (row[2], row[3]) for row in rows if row[0] and row[1]}


def listed(module: str) -> list[Listed]:
    """The staged versions, the newest first, each verified now."""
    from kloros.errors import ArtifactRefused, StoreUnusable
    from kloros.storage import artifacts

    verdicts: dict[tuple[str, str], tuple[str, str]] = {}
    with suppress(StoreUnusable), stored_by(STEM) as stored:
        verdicts = _verdicts(stored)
    found = []
    root, current = root_of_artifacts(), current_of(module)
    with readable():
        for version in versions(module):
            staged_ts = (root / module / version / artifacts.MANIFEST).stat().st_mtime
            each = Listed(module=module, version=version, staged_ts=staged_ts, is_in_force=version == current)
            try:
                artifact = artifacts.verify(root, module, version, owners=code_owners())
            except ArtifactRefused as refused:
                each.damage = refused.reason
            else:
                each.sha256, each.about = artifact.sha256, dict(artifact.about)
                each.files = {name: len(body) for name, body in artifact.files.items()}
                each.verdict = verdicts.get((artifact.name, artifact.sha256), (None, ""))[0]
            found.append(each)
    return found


@contextmanager
def as_owner() -> Iterator[None]:
    """As whoever owns the artifacts: what root wrote, the daemons could not read. Raises StoreUnusable."""
    from kloros.errors import StoreUnusable

    root = root_of_artifacts()
    there = next(each for each in (root, *root.parents) if each.exists())
    owner = there.stat()
    is_root = os.geteuid() == 0
    if not is_root and not os.access(there, os.W_OK | os.X_OK):
        raise StoreUnusable(path=root, reason="you may not write there; be root or user kloros")
    if is_root and owner.st_uid == 0 and is_system():
        told = "it belongs to root, not to the daemons" if root.exists() else "nothing has been installed yet"
        raise StoreUnusable(path=root, reason=f"{told}; start kloros.target once")
    if not is_root or owner.st_uid == 0:
        yield
        return
    had = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(had)


@contextmanager
def readable() -> Iterator[None]:
    """Says who may look, to whoever may not. Raises StoreUnusable."""
    from kloros.errors import StoreUnusable

    try:
        yield
    except PermissionError as error:
        told = "you may not look into it; be root or user kloros"
        raise StoreUnusable(path=root_of_artifacts(), reason=told) from error
