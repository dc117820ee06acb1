"""HOT_SWAP_MODULE: a staged version becomes current by the atomic pointer, the unit is restarted, and must serve.

Only what is staged under `<state>/artifacts` can become current, whole and as its manifest says: nothing is taken from
the bus but the name of a version and the SHA-256 of its manifest. Packages, staged by root, are for daemons of a user's
own; whether one runs, the daemon's heart says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from kloros.clock import Clock
from kloros.errors import ArtifactRefused, HelperAway, HelperFailed, HelperRefused, HelperSilent
from kloros.machine.privileged_client import PrivilegedClient
from kloros.machine.privileged_protocol import Answer, AnyRequest, Restart
from kloros.optimisation.levers import Hand, NotDone, Reading, Unfit, Wanted
from kloros.optimisation.live import Live
from kloros.optimisation.settings import HotSwapSettings
from kloros.storage import artifacts
from kloros.units import us_to_seconds

AS_INSTALLED = ""
"""The version of a module that runs with its settings file alone."""
_OWN_DAEMONS = "kloros-consumer@{module}:"
_ROOT = 0


class Helper(Protocol):
    """The privileged helper, as far as it matters here."""

    @property
    def is_there(self) -> bool:
        """Whether there is a socket to ask at."""

    def ask(self, request: AnyRequest, timeout_s: float = ...) -> Answer:
        """Have it done."""


class Versions:
    """The pointers of modules, and the daemons that run with what they lead to."""

    def __init__(
        self, state: Path, live: Live, clock: Clock, helper: Helper | PrivilegedClient, settings: HotSwapSettings,
        owners: Collection[int] = (_ROOT,),
    ) -> None:  # fmt: skip
        """owners: who may have staged code."""
        self._root, self._live, self._clock = artifacts.artifacts_under(state), live, clock
        self._helper, self._settings, self._owners = helper, settings, owners

    @property
    def modules(self) -> Mapping[str, str]:
        """The daemon, by its stem, of each module that may be swapped."""
        return self._settings.modules

    def check(self, module: str, given: Mapping[str, str]) -> str:
        """The version that is proposed, verified whole. Raises Unfit."""
        if module not in self.modules:
            raise Unfit("not_swappable", f"{module} is not among the modules that may be swapped", must_flag=True)
        name, sha256 = given.get("artifact"), given.get("sha256")
        if not name or not sha256:
            raise Unfit("no_artifact", "no staged version and the SHA-256 of its manifest are named")
        try:
            owner, version = artifacts.split_name(name)
            if owner != module:
                raise ArtifactRefused(artifact=name, reason=f"it is not of {module}")
            staged = artifacts.verify(self._root, module, version, sha256, self._owners)
            if staged.holds_code and not may_run_packages(self._settings, module):
                told = f"it holds code, and {self.unit_of(module)} is no daemon of a user's own"
                raise ArtifactRefused(artifact=name, reason=told)
        except ArtifactRefused as refused:
            raise Unfit("artifact_refused", str(refused), must_flag=True) from refused
        return version

    def require_helper(self) -> None:
        """Raises Unfit where nobody could restart the unit."""
        if not self._helper.is_there:
            told = "it takes the privileged helper (kloros-helper.socket) to restart the unit, and there is none here"
            raise Unfit("no_helper", told, must_flag=True)

    def read(self, module: str, name: str) -> Reading:
        try:
            return Reading(artifacts.current_version(self._root, module) or AS_INSTALLED)
        except ArtifactRefused as refused:
            return Reading(None, False, str(refused))

    def put(self, wanted: Wanted, hand: Hand) -> None:
        """The pointer, the restart, and a heart that began to beat after it."""
        version, package = str(wanted.value or AS_INSTALLED), None
        try:
            if version == AS_INSTALLED:
                artifacts.drop_current(self._root, wanted.module)
            else:
                staged = artifacts.make_current(self._root, wanted.module, version)
                package = staged.name if staged.holds_code else None
        except (ArtifactRefused, OSError) as error:
            told = f"the pointer could not be set: {error}"
            if wanted.is_own and self.read(wanted.module, wanted.name).value != AS_INSTALLED:
                self._run_as_installed(wanted, hand)
            raise NotDone(told) from error
        self._restart(wanted, hand, package)

    def _run_as_installed(self, wanted: Wanted, hand: Hand) -> None:
        """What was before is damaged: what is installed at least serves, the version that failed does not."""
        with suppress(OSError, NotDone):
            artifacts.drop_current(self._root, wanted.module)
            self._restart(wanted, hand, None)

    def daemon_of(self, module: str) -> str:
        """The stem of the daemon that runs a module."""
        return self.modules.get(module, module)

    def unit_of(self, module: str) -> str:
        """The unit that runs a module."""
        return unit_of(self._settings, module)

    def _restart(self, wanted: Wanted, hand: Hand, package: str | None) -> None:
        stem, unit = self.daemon_of(wanted.module), self.unit_of(wanted.module)
        asked_s = self._clock.monotonic_s()
        failure = ""
        try:
            self._helper.ask(Restart(unit=unit, by=f"optimiser {wanted.change_id}"), self._settings.start_s)
        except (HelperAway, HelperRefused) as error:
            raise NotDone(f"{unit} could not be restarted: {error}") from error
        except (HelperFailed, HelperSilent) as error:  # it may come up yet
            failure = f": {error}"
        left_s = self._settings.start_s - (self._clock.monotonic_s() - asked_s)
        if not hand.wait_until(lambda: self.serves_since(stem, asked_s), max(left_s, 0.0)):
            waited_s = self._clock.monotonic_s() - asked_s
            raise NotDone(f"{unit} does not serve {waited_s:.1f} s after its restart{failure}")
        runs = self._live.hearts[self._live.zooid_of(stem)].artifact
        if runs != package:
            raise NotDone(f"{unit} says that it runs {runs or 'the code as installed'}: its journal tells why")

    def pid_of(self, stem: str) -> int | None:
        """The process that a module's daemon is, as its heart said last."""
        heart = self._live.hearts.get(self._live.zooid_of(stem))
        return heart.pid if heart is not None else None

    def lost_since(self, stem: str, since_us: int, pid: int | None) -> str:
        """What became of the daemon since that moment (wall), when it was this process; empty when it lives on."""
        now_s, now_us = self._clock.monotonic_s(), self._clock.wall_us()
        heart = self._live.hearts.get(self._live.zooid_of(stem))
        silent_s = now_s - (heart.at_s if heart else max(self._live.began_s, now_s - us_to_seconds(now_us - since_us)))
        if silent_s > self._settings.silent_s:
            return f"it was silent for {silent_s:.0f} s"
        if heart is not None and pid is not None and heart.pid != pid:
            return "it was started anew"
        return ""

    def serves_since(self, stem: str, since_s: float) -> bool:
        """Whether the daemon began after that moment, and lives."""
        heart = self._live.heart(self._live.zooid_of(stem), self._clock.monotonic_s())
        return heart is not None and heart.began_s >= since_s - 0.5 and heart.mode not in ("stopped", "killed")


def unit_of(settings: HotSwapSettings, module: str) -> str:
    """The unit that runs a module."""
    stem = settings.modules.get(module, module)
    return settings.units.get(stem) or f"kloros-{stem.replace('_', '-')}.service"


def may_run_packages(settings: HotSwapSettings, module: str) -> bool:
    """Whether a module is run by `kloros consume`, which alone takes code from a staged version."""
    return unit_of(settings, module).startswith(_OWN_DAEMONS.format(module=module))
