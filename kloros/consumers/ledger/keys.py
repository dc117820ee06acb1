"""Key files: made on first start, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from kloros.errors import KeyUnusable

LEDGER_KEY = "ledger.key"
OBSERVATION_KEY = "observation.key"

_MIN_BYTES, _MAX_BYTES = 16, 4096
_OTHERS = 0o077


def read_key(path: Path) -> bytes:
    """The bytes of a key file, all of them.

    Raises:
        KeyUnusable: It is not there, others may read it, or it holds no key.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            key = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise KeyUnusable(path=path, reason=error.strerror or error) from error
    if mode & _OTHERS:
        raise KeyUnusable(path=path, reason=f"others may read it (mode {mode:04o}); chmod 600 {path}")
    if not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        reason = f"it holds {len(key)} bytes; a key has {_MIN_BYTES} to {_MAX_BYTES}"
        raise KeyUnusable(path=path, reason=reason)
    return key


def make_key(path: Path) -> None:
    """Make a key file, mode 0600, whole or not at all; one that is there already stays.

    Raises:
        KeyUnusable: The disk refuses.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
        _settle(path.parent)
    except OSError as error:
        raise KeyUnusable(path=path, reason=error.strerror or error) from error


def _settle(directory: Path) -> None:
    """Let a new name survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
