"""The parameters that a module runs with: its settings file, with the current artifact laid over it.

A daemon whose parameters can be improved reads its settings through `TunedSettings` instead of `OwnSettings`. Whoever
activates an artifact switches `<state>/artifacts/<module>/current` (storage.artifacts.make_current), and restarts the
daemon or sends it SIGHUP. Without a current artifact, or with one that is refused, the settings file alone holds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tomli_w
from structlog.typing import FilteringBoundLogger

from kloros.config import Settings, convert, read_toml
from kloros.consumers.candidates.space import Parameters, tables_of
from kloros.daemon.own_settings import OwnSettings
from kloros.errors import ArtifactRefused, ConfigError
from kloros.storage.artifacts import PARAMETERS, Artifact, artifacts_under, current_version, verify

SettingsT = TypeVar("SettingsT", bound=Settings)


class TunedSettings(OwnSettings[SettingsT]):
    """OwnSettings under what was found to be better."""

    def __init__(self, path: Path, shape: type[SettingsT], log: FilteringBoundLogger, state: Path, module: str) -> None:
        """`state`: the suite's (`place.suite_state`). Raises ConfigError for a fault in the file itself."""
        super().__init__(path, shape, log)
        self._state, self._module = state, module
        self.current = in_force(state, module, self.current, log)

    def reload(self) -> None:
        super().reload()
        if self._next is not None:
            self._next = in_force(self._state, self._module, self._next, self._log)


def in_force(state: Path, module: str, settings: SettingsT, log: FilteringBoundLogger) -> SettingsT:
    """`settings` with the module's current artifact laid over them; never raises, the log says what is in force."""
    try:
        artifact = current_artifact(state, module)
        if artifact is None or (artifact.holds_code and PARAMETERS not in artifact.files):
            return settings
        overlaid = overlay(settings, tables_in(artifact), state / "artifacts" / artifact.name / PARAMETERS)
    except (ArtifactRefused, ConfigError) as error:
        log.error("parameters_refused", module=module, reason=str(error))
        return settings
    log.info("parameters_in_force", module=module, artifact=artifact.name)
    return overlaid


def overlay(settings: SettingsT, tables: Mapping[str, Any], path: Path) -> SettingsT:
    """Settings with some of their keys replaced, checked like the file itself; `path` is only named in the error.

    Raises:
        ConfigError: A key means nothing to these settings, or its value does not fit.
    """
    return convert(merged(msgspec.to_builtins(settings), tables), type(settings), path)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with others laid over them."""
    both = ((key, below.get(key), value) for key, value in above.items())
    laid = {
        key: merged(under, over) if isinstance(under, Mapping) and isinstance(over, Mapping) else over
        for key, under, over in both
    }
    return {**below, **laid}


def current_artifact(state: Path, module: str) -> Artifact | None:
    """The module's artifact in force, verified; None when there is none. Raises ArtifactRefused."""
    root = artifacts_under(state)
    version = current_version(root, module)
    return None if version is None else verify(root, module, version)


def tables_in(artifact: Artifact) -> dict[str, Any]:
    """What an artifact's parameters file says. Raises ArtifactRefused when it has none that can be read."""
    try:
        return tomllib.loads(artifact.files[PARAMETERS].decode())
    except KeyError:
        raise ArtifactRefused(artifact=artifact.name, reason=f"it has no {PARAMETERS}") from None
    except ValueError as error:
        raise ArtifactRefused(artifact=artifact.name, reason=f"{PARAMETERS} cannot be read: {error}") from error


def parameters_text(parameters: Parameters) -> str:
    """A parameters file."""
    return tomli_w.dumps(tables_of(parameters))


def tables_in_force(state: Path, config: Path, module: str, settings: str) -> dict[str, Any]:
    """What the module's files say now. What cannot be read is passed over, as the module itself does."""
    tables: dict[str, Any] = {}
    with suppress(ConfigError):
        tables = read_toml(config / f"{settings}_config.toml")
    with suppress(ArtifactRefused):
        tables = merged(tables, _current_tables(state, module))
    return tables


def _current_tables(state: Path, module: str) -> dict[str, Any]:
    artifact = current_artifact(state, module)
    return {} if artifact is None else tables_in(artifact)
