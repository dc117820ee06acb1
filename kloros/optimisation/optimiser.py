"""The self-optimiser as the documents have it: actions in, records out, nothing raised. asyncio lives here only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from kloros.clock import Clock, SystemClock
from kloros.optimisation import gates
from kloros.optimisation.book import Book
from kloros.optimisation.changes import Change
from kloros.optimisation.duck import budgets_of, shedder_of, thresholds_of
from kloros.optimisation.enacting import Done, Enacting
from kloros.optimisation.gates import Answer, Decision, Standing
from kloros.optimisation.hands import Hands
from kloros.optimisation.model import ActionKind, EnactmentRecord, EnactmentStatus, ImprovementAction, OptimiserConfig
from kloros.optimisation.optimiser_metrics import NoMetrics
from kloros.optimisation.parsing import claims_to_be_a_flag
from kloros.optimisation.ports import (
    Alerts,
    CodeSource,
    CycleBudgets,
    DetectorThresholds,
    Health,
    HotSwapper,
    LoadShedder,
    ModuleFigures,
    OptimiserMetrics,
)
from kloros.units import seconds_to_us, us_to_seconds

MOST_HELD_FLAGS = 10_000
MOST_FLAGGED = 10_000
UNKNOWN = "UNKNOWN"
_STATUS = {
    Answer.SKIP: EnactmentStatus.SKIPPED,
    Answer.ASK: EnactmentStatus.SKIPPED,
    Answer.LIMIT: EnactmentStatus.RATE_LIMITED,
    Answer.REFUSE: EnactmentStatus.FAILED,
}
_COUNTED_AS = {
    EnactmentStatus.SUCCESS: "enacted",
    EnactmentStatus.PARTIAL: "partial",
    EnactmentStatus.SKIPPED: "skipped",
    EnactmentStatus.FAILED: "failed",
    EnactmentStatus.RATE_LIMITED: "rate_limited",
}


@runtime_checkable
class SelfOptimiser(Protocol):
    """Enacts what a planner proposes."""

    async def enact(
        self, actions: Sequence[ImprovementAction], *, config: OptimiserConfig | None = None
    ) -> list[EnactmentRecord]:
        """Take up actions in their order; one record for each that is not deferred."""

    async def stats(self) -> dict[str, int]:
        """What was done since the last reset."""

    async def reset(self) -> None:
        """Forget the counts and the cool-downs."""


class NullOptimiser:
    """Does nothing."""

    async def enact(
        self, actions: Sequence[ImprovementAction], *, config: OptimiserConfig | None = None
    ) -> list[EnactmentRecord]:
        return []

    async def stats(self) -> dict[str, int]:
        return {}

    async def reset(self) -> None:
        pass


class AsyncSelfOptimiser:
    """Routes actions to the subsystems, behind the gates of gates.py.

    One change is made at a time; flags wait for nobody. `enact` raises nothing but CancelledError. Without
    `config.verification` a change ends at once, unverified; with it call `verify` now and then.

    Args:
        orchestrator: Swaps modules as the documents have it (`swapper`: by staged versions).
        cognitive_cycle: Offers `_detector_config`, `_budget_map`, `_load_shedder`, or the typed ports.
        alert_queue: Where flags go, an asyncio.Queue or anything with `put_nowait`. While it is full they are held
            here, in order, and handed over by the next `enact` or `flush`.
        book, keep: What was kept before, and what keeps it, called before anything is changed.
    """

    def __init__(
        self,
        orchestrator: Any = None,
        cognitive_cycle: Any = None,
        alert_queue: Alerts | None = None,
        config: OptimiserConfig | None = None,
        *,
        clock: Clock | None = None,
        thresholds: DetectorThresholds | None = None,
        budgets: CycleBudgets | None = None,
        shedder: LoadShedder | None = None,
        swapper: HotSwapper | None = None,
        code: CodeSource | None = None,
        metrics: OptimiserMetrics | None = None,
        health: Health | None = None,
        figures: ModuleFigures | None = None,
        book: Book | None = None,
        keep: Callable[[Book], None] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._config = config or OptimiserConfig()
        self._alerts: Alerts = asyncio.Queue() if alert_queue is None else alert_queue
        self._metrics: OptimiserMetrics = metrics or NoMetrics()
        self._health = health
        self._book = book or Book()
        self._keep = keep
        self._held: deque[ImprovementAction] = deque()
        self._flagged: dict[str, int] = {}
        self._stats: dict[str, int] = {}
        self._lock = asyncio.Lock()
        # Wall time that never steps: moments that are kept mean the same to the next process.
        self._start_us = self._clock.wall_us() - self._monotonic_us()
        hands = Hands(
            thresholds or thresholds_of(cognitive_cycle), budgets or budgets_of(cognitive_cycle),
            shedder or shedder_of(cognitive_cycle), swapper, orchestrator, code,
        )  # fmt: skip
        self._enacting = Enacting(hands, self._book, self._keep_book, self._now_us, figures)

    @property
    def book(self) -> Book:
        """All that must not be forgotten."""
        return self._book

    async def enact(
        self, actions: Sequence[ImprovementAction], *, config: OptimiserConfig | None = None
    ) -> list[EnactmentRecord]:
        """Take up actions in their order; one record for each that is not deferred."""
        chosen = config if isinstance(config, OptimiserConfig) else self._config
        self._metrics.enact_called()
        self._count("enact_calls")
        self.flush()
        try:
            taken: list[object] = list(actions)
        except Exception:  # noqa: BLE001 - what was handed in may be anything
            taken = [actions]
        records: list[EnactmentRecord] = []
        spent = 0
        for raw in taken:
            record, is_spent = await self._enact_one(raw, chosen, spent)
            spent += is_spent
            if record is not None:
                records.append(record)
        return records

    async def verify(self, *, config: OptimiserConfig | None = None) -> list[Change]:
        """Judge what has settled, undo what did harm or lapsed; the changes that ended by it."""
        async with self._lock:
            return await self._verify(config or self._config)

    async def _verify(self, config: OptimiserConfig) -> list[Change]:
        if not self._book.changes:
            return []
        ended = await self._enacting.resume(config)
        for change in ended:
            self._count(str(change.verdict).lower())
            if change.is_restored is False and change.undo_attempts:
                told = f"{change.name}: {change.reason}"
                self._raise_flag(change.module_name, "not_restored", told, change.change_id)
        return ended

    async def revert(self, action_id: str, reason: str = "an operator asked for it") -> Change | None:
        """Undo an open change; None when there is none of this id."""
        async with self._lock:
            change = self._book.changes.get(action_id)
            return await self._enacting.revert(change, reason, self._config) if change else None

    async def stats(self) -> dict[str, int]:
        """What was done since the last reset."""
        return dict(self._stats)

    async def reset(self) -> None:
        """Forget the counts and the cool-downs; quotas, the breaker and open changes stay: they protect."""
        async with self._lock:
            self._stats.clear()
            gates.reset(self._book.gates)

    def pause(self, reason: str) -> None:
        """The kill switch: from now on nothing is changed; flags still pass."""
        self._book.gates.paused = reason or "paused"
        self._keep_book()

    def resume(self) -> None:
        """Changes may be made again."""
        self._book.gates.paused = ""
        self._keep_book()

    def approve(self, action_id: str, for_s: float = 3600.0) -> None:
        """A person said yes to one action; sent again within `for_s`, it passes."""
        gates.approve(self._book.gates, action_id, self._now_us(), for_s)
        self._keep_book()

    def flush(self) -> int:
        """Hand over flags that are held; how many are held still."""
        while self._held:
            try:
                self._alerts.put_nowait(self._held[0])
            except Exception:  # noqa: BLE001 - full, or broken: they stay here
                break
            self._held.popleft()
        return len(self._held)

    async def _enact_one(
        self, raw: object, config: OptimiserConfig, spent: int
    ) -> tuple[EnactmentRecord | None, bool]:  # fmt: skip
        begun_s, started_us = self._clock.monotonic_s(), self._clock.wall_us()

        def record(action: ImprovementAction, done: Done) -> EnactmentRecord:
            duration_s = self._clock.monotonic_s() - begun_s
            self._count(_COUNTED_AS[done.status])
            self._metrics.enacted(action.action_kind if done.is_known else UNKNOWN, done.status, duration_s)
            return EnactmentRecord(
                action, done.status, done.detail, duration_s, begun_s, us_to_seconds(started_us),
                done.reason_code, done.before, done.after, done.verdict,
            )  # fmt: skip

        if claims_to_be_a_flag(raw):
            decision = self._decide(raw, config, spent)
            return record(decision.action, self._flag(decision)), False
        async with self._lock:
            await self._verify(config)
            decision = self._decide(raw, config, spent)
            if decision.answer is Answer.GO:
                done = await self._go(decision.action, config)
                return record(decision.action, done), not done.is_change
        if decision.answer is Answer.DEFER:
            self._count("deferred")
            self._metrics.enacted(decision.action.action_kind, "DEFERRED", 0.0)
            return None, False
        done = self._stopped(decision)
        return record(decision.action, done), decision.reason_code == "no_op"

    def _decide(self, raw: object, config: OptimiserConfig, spent: int) -> Decision:
        unhealthy, modules = self._unhealthy()
        standing = Standing(
            now_us=self._now_us(), wall_us=self._clock.wall_us(), busy=self._book.busy(), unhealthy=unhealthy,
            modules=modules, spent=spent,
        )  # fmt: skip
        return gates.decide(self._book.gates, raw, standing, config)

    def _stopped(self, decision: Decision) -> Done:
        action = decision.action
        if decision.must_flag:
            self._raise_flag(action.module_name, decision.reason_code, decision.detail, action.action_id)
        if decision.answer is Answer.LIMIT:
            self._metrics.rate_limited(action.module_name, action.action_kind)
        if decision.reason_code in ("duplicate", "expired"):
            self._count(decision.reason_code)
        if decision.answer is Answer.REFUSE:
            self._count("refused")
        is_known = decision.reason_code not in ("unknown_kind", "malformed")
        return Done(_STATUS[decision.answer], decision.detail, decision.reason_code, False, is_known=is_known)

    async def _go(self, action: ImprovementAction, config: OptimiserConfig) -> Done:
        taken_us = self._book.gates.seen[action.action_id]
        done = await self._enacting.enact(action, config)
        if not done.is_change:
            gates.untake(self._book.gates, action, taken_us)
        if done.status is EnactmentStatus.FAILED:
            gates.failed(self._book.gates, self._now_us(), config)
        if done.swap_outcome:
            self._metrics.swapped(action.module_name, done.swap_outcome)
        with suppress(Exception):  # it is kept again with the next change; what was done is done
            self._keep_book()
        return done

    def _flag(self, decision: Decision) -> Done:
        self._count("flags")
        if decision.reason_code == "flagged_before":
            return Done(EnactmentStatus.SUCCESS, decision.detail, decision.reason_code)
        if self._hand_over(decision.action):
            return Done(EnactmentStatus.SUCCESS, decision.detail, decision.reason_code)
        gates.unflag(self._book.gates, decision.action)
        return Done(EnactmentStatus.FAILED, f"{MOST_HELD_FLAGS} flags wait already: nobody takes them", "flag_not_kept")

    def _raise_flag(self, module: str, reason_code: str, detail: str, action_id: str) -> None:
        """A flag of our own, folded: the same trouble of the same module again only raises a count."""
        fingerprint = f"{module}|{reason_code}"
        times = self._flagged.pop(fingerprint, 0) + 1
        self._flagged[fingerprint] = times
        while len(self._flagged) > MOST_FLAGGED:
            del self._flagged[next(iter(self._flagged))]
        if times & (times - 1):  # told at 1, 2, 4, 8, ...
            return
        parameters = (("reason_code", reason_code), ("about", action_id), ("count", str(times)))
        flag = ImprovementAction(module, ActionKind.FLAG_FOR_REVIEW, 0.5, detail, parameters, source="self_optimiser")
        self._hand_over(flag)

    def _hand_over(self, flag: ImprovementAction) -> bool:
        if len(self._held) >= MOST_HELD_FLAGS and self.flush() >= MOST_HELD_FLAGS:
            self._count("flags_not_kept")
            return False
        self._held.append(flag)
        self.flush()
        return True

    def _unhealthy(self) -> tuple[int, int]:
        if self._health is None:
            return 0, 0
        try:
            return self._health.unhealthy()
        except Exception:  # noqa: BLE001 - not to know how the suite is means that nothing is changed
            return 1, 1

    def _count(self, name: str) -> None:
        self._stats[name] = self._stats.get(name, 0) + 1

    def _keep_book(self) -> None:
        if self._keep:
            self._keep(self._book)

    def _monotonic_us(self) -> int:
        return seconds_to_us(self._clock.monotonic_s())

    def _now_us(self) -> int:
        return self._start_us + self._monotonic_us()
