"""A daemon's own settings file: read at the start, read again on SIGHUP, taken over between two pieces of work."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

from structlog.typing import FilteringBoundLogger

from kloros.config import Settings, load_or_default
from kloros.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=Settings)


class OwnSettings(Generic[SettingsT]):
    """`current` stays the same until `take`, so that one cycle never sees two versions.

    `reload` belongs to the loop's thread (call it in `on_reload`), `take` to the one that works.
    """

    def __init__(self, path: Path, shape: type[SettingsT], log: FilteringBoundLogger) -> None:
        """Read the file; a missing one means all defaults. Raises ConfigError."""
        self._path, self._shape, self._log = path, shape, log
        self._next: SettingsT | None = None
        self.current = load_or_default(path, shape)

    def reload(self) -> None:
        """Read it again. A file with a fault changes nothing; the log says what is wrong."""
        try:
            self._next = load_or_default(self._path, self._shape)
        except ConfigError as error:
            self._log.error("settings_refused", reason=str(error))
        else:
            self._log.info("settings_reloaded", when="with the next cycle")

    def take(self) -> bool:
        """Make what was read last the current settings; returns whether they are new."""
        settings, self._next = self._next, None
        if settings is None or settings == self.current:
            return False
        self.current = settings
        return True
