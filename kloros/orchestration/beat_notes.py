"""What is noted about each beat that was emitted: how late it was, metrics, a row of the ledger, a line of the log."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from kloros.chembus.ratelimit import TokenBucket
from kloros.clock import Clock
from kloros.orchestration.beat_ledger import BeatLedger, BeatRow
from kloros.orchestration.lateness import Lateness
from kloros.orchestration.schedule_entry import Beat, Change
from kloros.orchestration.schedule_facts import why
from kloros.telemetry.metrics import Metrics
from kloros.units import us_to_seconds

# Beats beyond this are counted in one line a second instead of having one each.
LOGGED_BEATS_PER_S, LOGGED_BEATS_BURST = 50.0, 500


class BeatNotes:
    """Takes note of beats. `epoch` is that of the scheduler's present life."""

    def __init__(self, clock: Clock, log: FilteringBoundLogger, metrics: Metrics, ledger: BeatLedger) -> None:
        self._clock, self._log, self._ledger = clock, log, ledger
        self.epoch = 0
        self.lateness = Lateness()
        self.last_beat = "no beat yet"
        self._unlogged = 0
        self._log_bucket = TokenBucket(LOGGED_BEATS_PER_S, LOGGED_BEATS_BURST, clock.monotonic_s())
        self._beats_total = metrics.counter("kloros_beats_emitted_total", "Beats emitted.", ("reason",))
        self._missed_total = metrics.counter("kloros_beats_missed_total", "Beats given up by the misfire policy.")
        self._lateness_s = metrics.histogram("kloros_beat_lateness_seconds", "From due to emitted.")

    def emitted(self, beat: Beat, late_us: int, *, is_lost: bool) -> None:
        """Its trigger left so late; `is_lost`: there was no bus to take it."""
        if beat.reason == "due":
            self.lateness.add(late_us / 1000)
            self._lateness_s.observe(max(0.0, us_to_seconds(late_us)))
        self._beats_total.labels(beat.reason).inc()
        if beat.missed:
            self._missed_total.inc(beat.missed)
        self.last_beat = beat.entry.name if beat.beat is None else f"{beat.entry.name} {beat.beat}"
        self._record(beat, late_us, is_lost)
        self._tell(beat, late_us, is_lost)

    def tell_the_rest(self) -> None:
        """One line for those that got none."""
        if self._unlogged:
            self._log.info("more_beats", count=self._unlogged)
            self._unlogged = 0

    def _record(self, beat: Beat, late_us: int, is_lost: bool) -> None:
        """Into the ledger of beats; it is written when the schedule is remembered."""
        if beat.due_us is None or beat.beat is None:
            self._ledger.note(beat.entry.name, Change(self._clock.wall_us(), "unnumbered", why=beat.reason))
            return
        row = BeatRow(
            beat.entry.name, beat.due_us, beat.beat, beat.reason, beat.due_us + late_us, beat.interval_us, self.epoch,
            int(is_lost), why(beat),
        )  # fmt: skip
        self._ledger.emitted(row)

    def _tell(self, beat: Beat, late_us: int, is_lost: bool) -> None:
        if not self._log_bucket.take(self._clock.monotonic_s()):
            self._unlogged += 1
            return
        remarkable: dict[str, object] = {} if beat.reason == "due" else {"reason": beat.reason, "missed": beat.missed}
        if is_lost:
            remarkable["lost"] = "the bus is not joined"
        self._log.info(
            "beat",
            signal=beat.entry.signal,
            schedule=beat.entry.name,
            beat=beat.beat,
            due_ts=None if beat.due_us is None else us_to_seconds(beat.due_us),
            late_ms=round(late_us / 1000, 3),
            **remarkable,
        )
