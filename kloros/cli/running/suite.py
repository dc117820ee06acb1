"""The suite in one process: each daemon in a thread of its own, with its own loop and its own place on the bus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from kloros.affect.affect_daemon import AffectDaemon
from kloros.clock import SystemClock
from kloros.consumers.action_consumer_daemon import ActionConsumerDaemon
from kloros.consumers.chembus_historian_daemon import ChembusHistorianDaemon
from kloros.consumers.curiosity_core_consumer_daemon import CuriosityCoreConsumerDaemon
from kloros.consumers.decay_daemon import DecayDaemon
from kloros.consumers.introspection_daemon import IntrospectionDaemon
from kloros.consumers.investigation_consumer_daemon import InvestigationConsumerDaemon
from kloros.consumers.ledger_writer_daemon import LedgerWriterDaemon
from kloros.consumers.semantic_dedup_consumer_daemon import SemanticDedupConsumerDaemon
from kloros.consumers.shadow_daemon import ShadowDaemon
from kloros.consumers.tournament_consumer_daemon import TournamentConsumerDaemon
from kloros.daemon.daemon import Daemon
from kloros.daemon.runner import composed
from kloros.daemon.suite_settings import SuiteSettings
from kloros.errors import KlorosError, SuiteFailed
from kloros.optimisation.optimiser_daemon import OptimiserDaemon
from kloros.orchestration.chem_proxy_daemon import ChemProxyDaemon
from kloros.orchestration.scheduler_daemon import SchedulerDaemon
from kloros.place import Place
from kloros.telemetry.logs import get_logger

SUITE: tuple[type[Daemon], ...] = (
    ChemProxyDaemon,
    ChembusHistorianDaemon,
    LedgerWriterDaemon,
    IntrospectionDaemon,
    CuriosityCoreConsumerDaemon,
    SemanticDedupConsumerDaemon,
    InvestigationConsumerDaemon,
    ActionConsumerDaemon,
    ShadowDaemon,
    TournamentConsumerDaemon,
    DecayDaemon,
    AffectDaemon,
    OptimiserDaemon,
    SchedulerDaemon,
)
"""In the order in which they start, who reacts before who fires; they stop in reverse."""

# A daemon waits this long for its cycle when it stops, and a little for its sockets.
STOP_TIMEOUT_S = 4.0
_POLL_S = 0.02


class Member:
    """One daemon in its thread. `ended` is set when it is gone, however it went; then `error` may say why."""

    def __init__(self, daemon_class: type[Daemon], place: Place, settings: SuiteSettings) -> None:
        self.zooid = daemon_class.zooid
        self.daemon: Daemon | None = None
        self.error: BaseException | None = None
        self.exit_code = 0
        self.ended = threading.Event()
        self._stop_asked = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self._run, args=(daemon_class, place, settings), name=self.zooid, daemon=True
        )

    @property
    def is_joined(self) -> bool:
        """Whether it hears the bus."""
        return self.daemon is not None and self.daemon.bus.joined

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def wait_started(self) -> None:
        """Wait until it is put together. Raises what ended it before that."""
        clock = SystemClock()
        while self.daemon is None and not self.ended.is_set():
            clock.sleep(_POLL_S)
        if isinstance(self.error, KlorosError):
            raise self.error

    def stop(self) -> None:
        """Ask it to stop; safe at any time."""
        with self._lock:
            self._stop_asked = True
            if self.daemon is not None and not self.ended.is_set():
                with suppress(OSError):  # its loop closed a moment ago
                    self.daemon.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for its thread; returns whether it ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def reason(self) -> str:
        """Why it ended, in words."""
        if self.error is not None:
            kind = "" if isinstance(self.error, KlorosError) else f"{type(self.error).__name__}: "
            return f"{kind}{self.error}"
        return f"it stopped by itself with exit code {self.exit_code}"

    def _run(self, daemon_class: type[Daemon], place: Place, settings: SuiteSettings) -> None:
        try:
            # Metrics belong to the installed suite: its ports are not for everyone who tries this out.
            with composed(daemon_class, place, settings, has_metrics=False) as daemon:
                with self._lock:
                    self.daemon = daemon
                    if self._stop_asked:
                        daemon.stop()
                self.exit_code = daemon.run()
        except BaseException as error:  # noqa: BLE001 - whatever it was, the suite must hear of it
            self.error = error
            if not isinstance(error, KlorosError):
                get_logger(daemon=self.zooid).exception("daemon_failed")
        finally:
            self.ended.set()


class Suite:
    """All daemons. The first one that ends unasked ends the suite."""

    def __init__(
        self, place: Place, settings: SuiteSettings, log_path: str, daemons: Sequence[type[Daemon]] = SUITE
    ) -> None:
        self.members = [Member(each, place, settings) for each in daemons]
        self._log_path = log_path
        self._clock = SystemClock()

    def start_bus(self, is_stopped: Callable[[], bool]) -> None:
        """Start the proxy and wait until its sockets are open."""
        self.members[0].start()
        while self.members[0].daemon is None and not is_stopped():
            self.raise_failure()
            self._clock.sleep(_POLL_S)

    def start_rest(self, is_stopped: Callable[[], bool]) -> None:
        """Start everyone else, each once the one before it is on the bus."""
        for member in self.members[1:]:
            member.start()
            while not member.is_joined and not is_stopped():
                self.raise_failure()
                self._clock.sleep(_POLL_S)

    def raise_failure(self) -> None:
        """Raise what ended a daemon unasked, if anything did."""
        for member in self.members:
            if not member.ended.is_set():
                continue
            if isinstance(member.error, KlorosError):
                raise member.error
            raise SuiteFailed(daemon=member.zooid, reason=member.reason(), log=self._log_path)

    def member(self, zooid: str) -> Member:
        """The member of that name."""
        return next(member for member in self.members if member.zooid == zooid)

    def stop(self) -> Sequence[str]:
        """Stop everyone, last started first; returns who did not end in time."""
        late = []
        for member in reversed(self.members):
            member.stop()
            if not member.join(STOP_TIMEOUT_S):
                late.append(member.zooid)
        return late
