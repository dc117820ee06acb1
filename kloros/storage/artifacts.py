"""Artifacts: staged versions of what a module runs with, each in a directory of its own under `<state>/artifacts`.

    <module>/<version>/parameters.toml   the module's settings, as far as they differ from its settings file
    <module>/<version>/manifest.json     the SHA-256 and size of each file
    <module>/current                     a link to the version in force; switching it is one rename

A version is complete or not there, and never changes: its name is for one content. The SHA-256 of the manifest stands
for all of it, so whoever proposes an artifact names both. What is read was verified just before, from the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from kloros.errors import ArtifactRefused

PARAMETERS = "parameters.toml"
MANIFEST = "manifest.json"
CURRENT = "current"
MAX_FILES = 64
MAX_FILE_BYTES = 1 << 20
_GONE = ".gone-"

_MODULE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VERSION = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the manifest."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What belongs to a version; `about` says where it comes from."""

    module: str
    version: str
    files: dict[str, Listed]
    about: dict[str, str] = {}


class Artifact(NamedTuple):
    """A verified version. `sha256` is that of its manifest."""

    module: str
    version: str
    sha256: str
    files: Mapping[str, bytes]
    about: Mapping[str, str]

    @property
    def name(self) -> str:
        """`module/version`, as signals name it."""
        return f"{self.module}/{self.version}"


def artifacts_under(state: Path) -> Path:
    """Where artifacts are, in a suite whose state is in `state`."""
    return state / "artifacts"


def split_name(name: str) -> tuple[str, str]:
    """Module and version of `module/version`; raises ArtifactRefused for anything else."""
    module, _, version = name.partition("/")
    _check_names(module, version)
    return module, version


def stage(
    root: Path, module: str, version: str, files: Mapping[str, bytes], about: Mapping[str, str] | None = None
) -> Artifact:
    """Make a version. One that is there already with the same files stays as it is.

    Raises:
        ArtifactRefused: It may not be called so, is too large, or is there with other files, or damaged.
        OSError: The disk refuses.
    """
    _check_names(module, version)
    _check_files(f"{module}/{version}", files)
    folder = root / module / version
    if not _is_there(folder):
        listed = {name: Listed(_sha256(body), len(body)) for name, body in sorted(files.items())}
        manifest = msgspec.json.encode(Manifest(module, version, listed, dict(about or {})))
        _write_whole(folder, {**files, MANIFEST: msgspec.json.format(manifest)})
    staged = verify(root, module, version)
    if staged.files != files:
        raise ArtifactRefused(artifact=staged.name, reason="it is there already, with other files")
    return staged


def verify(root: Path, module: str, version: str, sha256: str | None = None) -> Artifact:
    """The version with all its files, as its manifest says; `sha256`, if given, is what the manifest must be.

    Raises:
        ArtifactRefused: A file is missing, changed, added, too large or a link, or a name leads elsewhere.
    """
    _check_names(module, version)
    name = f"{module}/{version}"
    try:
        with _opened(root, module, version) as folder:
            return _verified(folder, name, sha256)
    except OSError as error:
        raise ArtifactRefused(artifact=name, reason=error.strerror or str(error)) from error


def current_version(root: Path, module: str) -> str | None:
    """The version in force; None when the module runs with its settings file alone.

    Raises:
        ArtifactRefused: `current` is no link, or leads anywhere but to a version beside it.
    """
    _check_names(module, "0")
    try:
        version = str((root / module / CURRENT).readlink())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactRefused(artifact=f"{module}/{CURRENT}", reason=error.strerror or str(error)) from error
    _check_names(module, version)
    return version


def make_current(root: Path, module: str, version: str, sha256: str | None = None) -> Artifact:
    """Put a version in force, in one step. Raises as `verify` does, and OSError when the disk refuses."""
    artifact = verify(root, module, version, sha256)
    folder = root / module
    link = folder / f".{CURRENT}-{os.getpid()}"
    with suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(version)
    link.replace(folder / CURRENT)
    _sync(folder)
    return artifact


def drop_current(root: Path, module: str) -> None:
    """Let the module run with its settings file alone. Raises OSError when the disk refuses."""
    _check_names(module, "0")
    with suppress(FileNotFoundError):
        (root / module / CURRENT).unlink()
        _sync(root / module)


def prune(root: Path, module: str, keep: int, spare: Collection[str] = ()) -> list[str]:
    """Delete all but the newest `keep` versions, the current one and those in `spare`; returns which."""
    folder = root / module
    if not folder.is_dir():
        return []
    for left in folder.glob(f"{_GONE}*"):
        shutil.rmtree(left, ignore_errors=True)
    spared = {*spare, current_version(root, module)}
    found = [each for each in folder.iterdir() if _VERSION.fullmatch(each.name) and not each.is_symlink()]
    versions = sorted((each for each in found if each.is_dir() and each.name != CURRENT), key=_age, reverse=True)
    pruned = [each.name for each in versions[max(0, keep) :] if each.name not in spared]
    for version in pruned:
        gone = folder / f"{_GONE}{version}"
        (folder / version).rename(gone)  # so that nobody ever sees half of it
        shutil.rmtree(gone, ignore_errors=True)
    return pruned


# Checking


def _check_names(module: str, version: str) -> None:
    if not _MODULE.fullmatch(module) or not _VERSION.fullmatch(version) or version == CURRENT:
        raise ArtifactRefused(artifact=f"{module}/{version}"[:160], reason="that is no name of a version of a module")


def _check_files(artifact: str, files: Mapping[str, bytes]) -> None:
    if not 0 < len(files) <= MAX_FILES:
        raise ArtifactRefused(artifact=artifact, reason=f"it has {len(files)} files; 1 to {MAX_FILES} are allowed")
    for name, body in files.items():
        if not _FILE.fullmatch(name) or name == MANIFEST:
            raise ArtifactRefused(artifact=artifact, reason=f"{name[:80]!r} is no name for a file of it")
        _check_size(artifact, name, len(body))


def _check_size(artifact: str, name: str, size_bytes: int) -> None:
    if size_bytes > MAX_FILE_BYTES:
        raise ArtifactRefused(artifact=artifact, reason=f"{name} is larger than {MAX_FILE_BYTES} bytes")


def _verified(folder: int, name: str, sha256: str | None) -> Artifact:
    body = _read(folder, name, MANIFEST)
    found = _sha256(body)
    if sha256 is not None and sha256 != found:
        raise ArtifactRefused(artifact=name, reason=f"its manifest has the SHA-256 {found}, not {sha256[:64]}")
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArtifactRefused(artifact=name, reason=f"its manifest cannot be read: {error}") from error
    if f"{manifest.module}/{manifest.version}" != name:
        raise ArtifactRefused(artifact=name, reason="its manifest is that of another version")
    present = set(os.listdir(folder)) - {MANIFEST}
    if strange := present ^ manifest.files.keys():
        how = "is missing" if strange - present else "is not in the manifest"
        raise ArtifactRefused(artifact=name, reason=f"{sorted(strange)[0][:80]!r} {how}")
    _check_files(name, dict.fromkeys(manifest.files, b""))
    files = {each: _read(folder, name, each) for each in manifest.files}
    for each, listed in manifest.files.items():
        if Listed(_sha256(files[each]), len(files[each])) != listed:
            raise ArtifactRefused(artifact=name, reason=f"{each} is not as the manifest says")
    return Artifact(manifest.module, manifest.version, found, files, manifest.about)


def _read(folder: int, artifact: str, name: str) -> bytes:
    """The bytes of a plain file; a link is not followed, and a pipe not waited for."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactRefused(artifact=artifact, reason=f"{name} is no plain file")
        _check_size(artifact, name, status.st_size)
        body = file.read(MAX_FILE_BYTES + 1)
    _check_size(artifact, name, len(body))
    return body


@contextmanager
def _opened(root: Path, *parts: str) -> Iterator[int]:
    """The directory `root/parts...`; below `root`, no link is followed."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, _DIRECTORY_FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


# Writing


def _write_whole(folder: Path, files: Mapping[str, bytes]) -> None:
    """All of it is on the platter under another name before it gets its own."""
    parent = folder.parent
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = parent / f".making-{folder.name}"
    shutil.rmtree(making, ignore_errors=True)  # of somebody who was killed while at it
    making.mkdir(mode=0o700)
    for name, body in files.items():
        with (making / name).open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
    _sync(making)
    making.rename(folder)
    for each in (parent, parent.parent, parent.parent.parent):
        _sync(each)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
