"""The suite in one process: what happens when one of its daemons ends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kloros.cli.running.suite import Suite
from kloros.daemon.daemon import Daemon
from kloros.daemon.guard import InstanceLock
from kloros.daemon.suite_settings import SuiteSettings
from kloros.errors import AlreadyRunning, ConfigError, KlorosError, SuiteFailed
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.orchestration.scheduler_daemon import SchedulerDaemon
from kloros.place import Place
from kloros.telemetry.logs import configure_logging


class Breaks(Daemon):
    zooid, niche = "breaks_daemon", "tests"

    def on_housekeeping(self) -> None:
        raise RuntimeError("a part broke")


class GivesUp(Daemon):
    zooid, niche = "gives_up_daemon", "tests"

    def on_housekeeping(self) -> None:
        self.stop(exit_code=1)


class Stays(Daemon):
    zooid, niche = "stays_daemon", "tests"


@pytest.fixture
def place(runtime_dir: Path) -> Place:
    config = runtime_dir / "config"
    shutil.copytree(Path(__file__).parents[2] / "config", config)
    return Place(config, runtime_dir / "state", runtime_dir)


@contextmanager
def suite(place: Place, *daemons: type[Daemon]) -> Iterator[Suite]:
    with (place.runtime / "log").open("w") as log:
        configure_logging("json", "info", log)
        each = Suite(place, SuiteSettings(), "log", (ChemProxyDaemon, *daemons))
        try:
            each.start_bus(lambda: False)
            yield each
        finally:
            assert each.stop() == []


def failure(each: Suite, wait_for) -> KlorosError:  # type: ignore[no-untyped-def]
    found: list[KlorosError] = []

    def look() -> bool:
        try:
            each.raise_failure()
        except KlorosError as error:
            found.append(error)
        return bool(found)

    wait_for(look, what="a failure")
    return found[0]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Breaks, "breaks_daemon ended: RuntimeError: a part broke"),
        (GivesUp, "gives_up_daemon ended: it stopped by itself"),
    ],
)
def test_a_daemon_that_ends_is_named(place: Place, wait_for, broken: type[Daemon], words: str) -> None:  # type: ignore[no-untyped-def]
    with suite(place, Stays, broken) as each:
        try:
            each.start_rest(lambda: False)
        except SuiteFailed as error:
            failed: KlorosError = error
        else:
            failed = failure(each, wait_for)
        assert words in str(failed)
        assert failed.exit_code == 1
        assert isinstance(failed, SuiteFailed)


def test_bad_settings_of_a_daemon_are_told_as_they_are(place: Place) -> None:
    (place.config / "scheduler_config.toml").write_text("[entries.x]\ninterval_s = -1\nsignal = 'Q_TRIGGER_X'\n")
    with suite(place, Stays, SchedulerDaemon) as each, pytest.raises(ConfigError, match="interval_s"):
        each.start_rest(lambda: False)


def test_a_daemon_that_runs_elsewhere_already_is_told(place: Place) -> None:
    lock = InstanceLock(place.runtime / "stays.lock", "stays", "noon")
    try:
        with suite(place, Stays) as each, pytest.raises(AlreadyRunning, match="A stays is already running here"):
            each.start_rest(lambda: False)
    finally:
        lock.close()


def test_stopping_before_anything_began_is_fine(place: Place) -> None:
    each = Suite(place, SuiteSettings(), "log")
    assert each.stop() == []
