"""One instance only: a lock file that names its holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from kloros.errors import AlreadyRunning, ConfigError

_LOCK_MODE = 0o600


class Holder(msgspec.Struct):
    """Who holds a lock, as written in its file."""

    pid: int
    since: str


class InstanceLock:
    """Held from construction to `close()`; the kernel lets go of it when the process dies, however it dies."""

    def __init__(self, path: Path, name: str, since: str) -> None:
        """`since` is how a person reads the start time. Raises AlreadyRunning, naming the holder."""
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _LOCK_MODE)
        except OSError as error:
            found = error.strerror or str(error)
            raise ConfigError(
                file=path, key="(lock file)", found=found, expected="a writable runtime directory"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._read_holder()
            os.close(self._fd)
            raise AlreadyRunning(name=name, pid=holder.pid, since=holder.since, lock=path) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, msgspec.json.encode(Holder(pid=os.getpid(), since=since)), 0)

    def _read_holder(self) -> Holder:
        try:
            return msgspec.json.decode(os.pread(self._fd, 4096, 0), type=Holder)
        except msgspec.DecodeError:  # locked but not yet written
            return Holder(pid=0, since="just now")

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)
