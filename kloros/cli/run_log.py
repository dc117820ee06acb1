"""Where the daemons' log lines go while a person watches: a file of bounded size."""

from __future__ import annotations

import io
import threading
from pathlib import Path

MAX_BYTES = 10 << 20


class RunLog(io.TextIOBase):
    """Lines to `path`, begun anew by each run; the one before is kept as `<name>.1`. Safe from several threads.

    A disk that takes no more loses lines, never the suite.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Raises OSError when the file cannot be made."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._begin()

    def write(self, text: str) -> int:
        with self._lock:
            try:
                if self._file.tell() > self._max_bytes:
                    self._file.close()
                    self._begin()
                self._file.write(text)
            except (OSError, ValueError):
                return 0
        return len(text)

    def flush(self) -> None:
        """Lines are written through as they come."""

    def close(self) -> None:
        with self._lock:
            self._file.close()
        super().close()

    def _begin(self) -> None:
        if self.path.exists():
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._file = self.path.open("w", buffering=1, encoding="utf-8")
