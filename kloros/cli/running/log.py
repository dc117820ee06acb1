"""Where the daemons' log lines go while a person watches: a file of bounded size."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TextIO

MAX_BYTES = 10 << 20


class RunLog(io.TextIOBase):
    """Lines to `path`, begun anew by each run; the one before is kept as `<name>.1`. Safe from several threads.

    A disk that takes nothing loses lines, never the suite; `lack` then says why.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.lack: str | None = None
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        self._begin()

    def write(self, text: str) -> int:
        with self._lock:
            if self._file is None:
                return 0
            try:
                if self._file.tell() > self._max_bytes:
                    self._file.close()
                    self._begin()
                if self._file is not None:
                    self._file.write(text)
            except (OSError, ValueError) as error:
                self.lack = str(error)
                return 0
        return len(text)

    def flush(self) -> None:
        """Lines are written through as they come."""

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
        super().close()

    def __str__(self) -> str:
        return str(self.path) if self.lack is None else f"not kept: {self.lack}"

    def _begin(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.exists():
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            self._file = self.path.open("w", buffering=1, encoding="utf-8")
        except OSError as error:
            self._file, self.lack = None, error.strerror or str(error)
