"""Artifacts: staged versions of what a module runs with, each in a directory of its own under `<state>/artifacts`.

    <module>/<version>/parameters.toml   the module's settings, as far as they differ from its settings file
    <module>/<version>/*.py              the module itself and what it imports: a package (daemon.packages runs it)
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
CODE_SUFFIX = ".py"
MAX_FILES = 64
MAX_FILE_BYTES = 1 << 20
_PREVIOUS, _GONE = ".previous", ".gone-"

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

    @property
    def holds_code(self) -> bool:
        """Whether it is a package."""
        return holds_code(self.files)


def holds_code(files: Collection[str]) -> bool:
    """Whether files of these names make a package."""
    return any(name.endswith(CODE_SUFFIX) for name in files)


def is_module_name(name: str) -> bool:
    """Whether a module of that name can have artifacts."""
    return _MODULE.fullmatch(name) is not None


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
    if not os.path.lexists(folder):
        listed = {name: Listed(_sha256(body), len(body)) for name, body in sorted(files.items())}
        manifest = msgspec.json.encode(Manifest(module, version, listed, dict(about or {})))
        make_room(root, module)
        _write_whole(root, module, version, {**files, MANIFEST: msgspec.json.format(manifest)})
    staged = verify(root, module, version)
    if staged.files != files:
        raise ArtifactRefused(artifact=staged.name, reason="it is there already, with other files")
    return staged


def make_room(root: Path, module: str) -> None:
    """Where the module's versions are to be; it belongs to whoever switches `current`. Raises OSError."""
    (root / module).mkdir(mode=0o700, parents=True, exist_ok=True)


def verify(
    root: Path, module: str, version: str, sha256: str | None = None, owners: Collection[int] | None = None
) -> Artifact:
    """The version with all its files, as its manifest says; `sha256`, if given, is what the manifest must be.

    owners: who may have staged code (user ids). A package is refused where anyone else could have written any of it.

    Raises:
        ArtifactRefused: A file is missing, changed, added, too large or a link, or a name leads elsewhere.
    """
    _check_names(module, version)
    name = f"{module}/{version}"
    try:
        with _opened(root, module, version) as folder:
            return _verified(folder, name, sha256, owners)
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
    with suppress(OSError):
        if (before := str((folder / CURRENT).readlink())) != version:
            _link(folder, _PREVIOUS, before)
    _link(folder, CURRENT, version)
    _sync(folder)
    return artifact


def _link(folder: Path, name: str, version: str) -> None:
    link = folder / f".{name}-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    link.replace(folder / name)


def drop_current(root: Path, module: str) -> None:
    """Let the module run with its settings file alone. Raises OSError when the disk refuses."""
    _check_names(module, "0")
    with suppress(FileNotFoundError):
        (root / module / CURRENT).unlink()
        _sync(root / module)


def prune(root: Path, module: str, keep: int, spare: Collection[str] = ()) -> list[str]:
    """Delete all of our own but the newest `keep` versions, the current one and those in `spare`; returns which."""
    folder = root / module
    if not folder.is_dir():
        return []
    for left in folder.glob(f"{_GONE}*"):
        shutil.rmtree(left, ignore_errors=True)
    spared = {*spare, current_version(root, module)}
    with suppress(OSError):  # a swap on probation may go back to it
        spared.add(str((folder / _PREVIOUS).readlink()))
    found = [each for each in folder.iterdir() if _VERSION.fullmatch(each.name) and not each.is_symlink()]
    ours = [each for each in found if each.is_dir() and each.name != CURRENT and each.stat().st_uid == os.geteuid()]
    versions = sorted(ours, key=_age, reverse=True)
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


def _verified(folder: int, name: str, sha256: str | None, owners: Collection[int] | None) -> Artifact:
    body, *statuses = _read(folder, name, MANIFEST)
    found = _sha256(body)
    if sha256 is not None and sha256 != found:
        raise ArtifactRefused(artifact=name, reason=f"its manifest has the SHA-256 {found}, not {sha256[:64]}")
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArtifactRefused(artifact=name, reason=f"its manifest cannot be read: {error}") from error
    if f"{manifest.module}/{manifest.version}" != name:
        raise ArtifactRefused(artifact=name, reason="its manifest is that of another version")
    present = _names(folder) - {MANIFEST}
    if strange := present ^ manifest.files.keys():
        how = "is missing" if strange - present else "is not in the manifest"
        raise ArtifactRefused(artifact=name, reason=f"{sorted(strange)[0][:80]!r} {how}")
    _check_files(name, dict.fromkeys(manifest.files, b""))
    files = {}
    for each, listed in manifest.files.items():
        files[each], status = _read(folder, name, each)
        statuses.append(status)
        if Listed(_sha256(files[each]), len(files[each])) != listed:
            raise ArtifactRefused(artifact=name, reason=f"{each} is not as the manifest says")
    if owners is not None and holds_code(files):
        for status in (os.fstat(folder), *statuses):
            _check_owner(name, status, owners)
    return Artifact(manifest.module, manifest.version, found, files, manifest.about)


def _check_owner(artifact: str, status: os.stat_result, owners: Collection[int]) -> None:
    if status.st_uid not in owners:
        who = " or ".join("root" if uid == 0 else f"user {uid}" for uid in sorted(owners))
        raise ArtifactRefused(
            artifact=artifact, reason=f"user {status.st_uid} could have written its code; only {who} may"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ArtifactRefused(artifact=artifact, reason="others than its owner may write its code")


def _read(folder: int, artifact: str, name: str) -> tuple[bytes, os.stat_result]:
    """The bytes of a plain file, and whose it is; a link is not followed, and a pipe not waited for."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactRefused(artifact=artifact, reason=f"{name} is no plain file")
        _check_size(artifact, name, status.st_size)
        body = file.read(MAX_FILE_BYTES + 1)
    _check_size(artifact, name, len(body))
    return body, status


def _names(folder: int) -> set[str]:
    return set(os.listdir(folder))


@contextmanager
def _opened(root: Path, *parts: str) -> Iterator[int]:
    """The directory `root/parts...`; no link is followed but above `root`."""
    descriptor = os.open(root, _DIRECTORY_FLAGS)
    try:
        for part in parts:
            inner = os.open(part, _DIRECTORY_FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


# Writing


def _write_whole(root: Path, module: str, version: str, files: Mapping[str, bytes]) -> None:
    """All of it is on the platter under another name before it gets its own.

    Root stages code beside what others may move about and link: nothing is reached by a path that they could change.
    """
    making = f".making-{version}"
    with _opened(root, module) as parent:
        shutil.rmtree(making, ignore_errors=True, dir_fd=parent)  # of somebody who was killed while at it
        os.mkdir(making, 0o755, dir_fd=parent)
        with _opened(root, module, making) as folder:
            if os.fstat(folder).st_uid != os.geteuid() or _names(folder):
                raise ArtifactRefused(artifact=f"{module}/{version}", reason="somebody else is at it")
            for name, body in files.items():
                _write(folder, name, body)
            os.fchmod(folder, 0o755)
            os.fsync(folder)
        os.rename(making, version, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    for each in (root, root.parent):
        _sync(each)


def _write(folder: int, name: str, body: bytes) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o644)  # whatever the umask: the daemons read what root has staged
        file.write(body)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
