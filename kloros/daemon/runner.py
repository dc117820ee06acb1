"""The composition root: builds clock, bus, store, logs and metrics, hands them to one daemon, and runs it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from kloros.chembus.bus import Bus
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import Clock, SystemClock
from kloros.config import load_or_default
from kloros.daemon.daemon import Daemon, Kit
from kloros.daemon.guard import InstanceLock
from kloros.daemon.loop import signals_handled
from kloros.daemon.notify import Notify
from kloros.daemon.suite_settings import SuiteSettings
from kloros.errors import KlorosError
from kloros.place import Place
from kloros.storage.state_store import StateStore
from kloros.telemetry.logs import configure_logging, get_logger
from kloros.telemetry.metrics import Metrics
from kloros.units import us_to_seconds

SUITE_FILE = "kloros.toml"


def begin() -> tuple[Place, SuiteSettings]:
    """Find the suite and its settings, and set up the logs. Raises ConfigError."""
    place = Place.discover()
    suite = load_or_default(place.config / SUITE_FILE, SuiteSettings)
    configure_logging("auto", suite.logs.level)
    return place, suite


def main(daemon_class: type[Daemon], artifact: str | None = None) -> int:
    """Run `daemon_class` as this process until it is asked to stop; returns the exit code.

    artifact: the staged package that the class is from, if any.

    0 asked to stop, 1 crash, 2 bad config or arguments, 3 bus unreachable, 4 store unusable.
    """
    try:
        place, suite = begin()
        with (
            composed(daemon_class, place, suite, artifact=artifact) as daemon,
            signals_handled(daemon.loop, daemon.stop, daemon.reload),
        ):
            daemon.loop.call_soon(_settle_memory)
            return daemon.run()
    except KlorosError as error:
        # Plain text too: logging may not be set up yet, and a person at a terminal reads this first.
        sys.stderr.write(f"{stem_of(daemon_class)}: {error}\n")
        return error.exit_code


@contextmanager
def composed(
    daemon_class: type[Daemon],
    place: Place,
    suite: SuiteSettings,
    *,
    clock: Clock | None = None,
    has_metrics: bool = True,
    artifact: str | None = None,
) -> Iterator[Daemon]:
    """A daemon with everything it needs, alone on its lock; all of it is closed afterwards, in reverse."""
    clock = clock or SystemClock()
    stem = stem_of(daemon_class)
    log = get_logger(daemon=stem)
    with ExitStack() as stack:

        def closing(close: Callable[[], None]) -> None:
            stack.callback(_never_raising, close)

        since = datetime.fromtimestamp(us_to_seconds(clock.wall_us()), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        closing(InstanceLock(place.runtime / f"{stem}.lock", stem, since).close)
        store = StateStore(place.state / stem / "state.db", daemon_class.tables)
        closing(store.close)
        if store.set_aside:
            log.error("state_set_aside", path=str(store.set_aside), reason="the file was corrupt; starting with none")
        bus = open_bus(place, daemon_class.zooid, daemon_class.niche, clock)
        closing(bus.close)
        metrics = Metrics()
        closing(metrics.close)
        daemon = daemon_class(Kit(clock, bus, store, log, metrics, Notify(), place, suite, artifact))
        if has_metrics:
            _serve_metrics(metrics, suite, stem, daemon)
        yield daemon


def stem_of(daemon_class: type[Daemon]) -> str:
    """The daemon's name in files, units and ports: its zooid without `_daemon`."""
    return daemon_class.zooid.removesuffix("_daemon")


def settings_file(place: Place, stem: str) -> Path:
    """Where the daemon's own settings are."""
    return place.config / f"{stem}_config.toml"


def open_bus(place: Place, name: str, niche: str, clock: Clock) -> Bus:
    """A connection to the bus of `place`."""
    return ZmqBus(Endpoints.for_runtime_dir(place.runtime), name=name, niche=niche, clock=clock)


def _settle_memory() -> None:
    """What exists once the daemon has started stays: let no garbage collection walk through it, beats would wait."""
    gc.collect()
    gc.freeze()


def _serve_metrics(metrics: Metrics, suite: SuiteSettings, stem: str, daemon: Daemon) -> None:
    port = suite.metrics.ports.get(stem, 0)
    if not suite.metrics.enabled or not port:
        return
    try:
        metrics.serve(suite.metrics.address, port)
    except OSError as error:
        daemon.log.warning("metrics_unavailable", address=suite.metrics.address, port=port, reason=error.strerror)


def _never_raising(close: Callable[[], None]) -> None:
    try:
        close()
    except Exception as error:  # noqa: BLE001 - one failing close never stops the rest
        get_logger().warning("close_failed", what=getattr(close, "__qualname__", str(close)), reason=str(error))
