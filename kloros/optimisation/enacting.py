"""One action that passed the gates, done: written ahead, made, read back; undone where that does not hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from kloros.optimisation import changes
from kloros.optimisation.book import Book, told
from kloros.optimisation.changes import Change, ChangeState, Do, Seen, Step
from kloros.optimisation.effects import Around, Effect, NoEffect, aim_of, effect_of, name_of
from kloros.optimisation.hands import CANNOT_UNDO, Hands, NotDone
from kloros.optimisation.model import (
    ActionKind,
    EnactmentStatus,
    Figures,
    ImprovementAction,
    OptimiserConfig,
    Value,
    Verdict,
)
from kloros.optimisation.ports import ModuleFigures
from kloros.optimisation.rules import Verification
from kloros.units import US_PER_S

_RECOVERY = Verification()


class Done(NamedTuple):
    """What became of it. `is_change`: something was changed, or was tried to; it counts."""

    status: EnactmentStatus
    detail: str
    reason_code: str
    is_change: bool = True
    before: Value = None
    after: Value = None
    verdict: Verdict | None = None
    swap_outcome: str = ""
    is_known: bool = True


class _Planned(NamedTuple):
    change: Change
    is_less: bool
    """A bound allows less than was asked for."""


class Enacting:
    """Makes and undoes changes; `keep` puts the book where a kill cannot reach it, before anything is done."""

    def __init__(
        self, hands: Hands, book: Book, keep: Callable[[], None], now_us: Callable[[], int],
        figures: ModuleFigures | None,
    ) -> None:  # fmt: skip
        self._hands, self._book, self._keep, self._now_us, self._figures = hands, book, keep, now_us, figures

    async def enact(self, action: ImprovementAction, config: OptimiserConfig) -> Done:
        """Do it. A change that fails half-way is taken back; only cancellation leaves that to `resume`."""
        missing = self._hands.missing(action.action_kind)
        if missing:
            return Done(EnactmentStatus.SKIPPED, missing, "no_port", is_change=False)
        try:
            async with asyncio.timeout(config.action_timeout_s):
                planned = await self._plan(action, config)
                return planned if isinstance(planned, Done) else await self._make(planned, config)
        except TimeoutError:
            code, detail, outcome = "timed_out", f"it took more than {config.action_timeout_s:g} s", "SWAP_ERROR"
        except NotDone as no:
            code, detail, outcome = no.outcome.lower(), str(no)[:500], no.outcome
            if not self._hands.can_read(action.action_kind):
                self._never_took_hold(action, detail)
        except Exception as error:  # noqa: BLE001 - whatever a subsystem raises is this action's failure only
            code, detail, outcome = "failed", (str(error) or type(error).__name__)[:500], "SWAP_ERROR"
        return await self._fallen(action, config, code, detail, outcome)

    async def _plan(self, action: ImprovementAction, config: OptimiserConfig) -> _Planned | Done:
        kind, module, name = action.action_kind, action.module_name, name_of(action)
        current = await self._hands.read(kind, module, name)
        after: Value
        is_less = False
        if kind is ActionKind.HOT_SWAP_MODULE:
            after = _version_of(action, needs_one=self._hands.swapper is not None)
            if after is None:
                return Done(EnactmentStatus.FAILED, "it names no version", "no_version")
            if current == after:
                return Done(EnactmentStatus.SKIPPED, f"{told(after)} is in force already", "at_its_bound", False)
        else:
            if current is None and self._hands.can_read(kind):
                return Done(EnactmentStatus.SKIPPED, f"there is no {name} of {module}", "no_port", is_change=False)
            effect = await self._effect(action, float(current) if isinstance(current, float | int) else 1.0, config)
            if isinstance(effect, NoEffect):
                status = EnactmentStatus.FAILED if effect.is_refusal else EnactmentStatus.SKIPPED
                return Done(status, effect.detail, effect.reason_code, is_change=effect.is_refusal)
            after, is_less = effect.after, effect.is_less
        now_us = self._now_us()
        change = Change(
            change_id=action.action_id, action_kind=kind, module_name=module, name=name, before=current, after=after,
            written_us=now_us, lease_until_us=now_us + round(config.limits.lease_s * US_PER_S), aim=aim_of(action),
            baseline=self._figures_of(module, None), parameters=action.parameters,
        )  # fmt: skip
        return _Planned(change, is_less)

    async def _effect(
        self, action: ImprovementAction, current: float, config: OptimiserConfig
    ) -> Effect | NoEffect:  # fmt: skip
        kind, module, name = action.action_kind, action.module_name, name_of(action)
        origin = self._book.origin(module, name, current)
        if origin is None:
            return NoEffect("too_many", "too many things were changed already", is_refusal=True)
        p95 = p99 = None
        if kind is ActionKind.TUNE_THRESHOLD:
            p95 = await self._hands.read(kind, module, "latency_p95_threshold_ms")
            p99 = await self._hands.read(kind, module, "latency_p99_threshold_ms")
        around = Around(
            current, origin, p95 if isinstance(p95, float) else None, p99 if isinstance(p99, float) else None
        )
        return effect_of(action, around, config.limits)

    async def _make(self, planned: _Planned, config: OptimiserConfig) -> Done:
        change = planned.change
        if why := self._book.gates.paused:  # said while the plan was made
            return Done(EnactmentStatus.SKIPPED, f"paused: {why}", "paused", is_change=False)
        self._put(change)
        said = await self._hands.write(change, change.after, config.limits.lease_s)
        is_seen = self._hands.can_read(change.action_kind)
        if is_seen:
            found = await self._hands.read(change.action_kind, change.module_name, change.name)
            if not changes.same(found, change.after):
                raise NotDone("NOT_IN_FORCE", f"{told(found)} is in force, not {told(change.after)}")
        change = changes.made(change, self._now_us())
        verdict = None
        if config.verification is None:
            change = changes.end(
                change, Verdict.INCONCLUSIVE, "nobody verifies here", self._now_us(), is_restored=False
            ).change
            verdict = change.verdict
        self._put(change)
        is_swap = change.action_kind is ActionKind.HOT_SWAP_MODULE
        status, code = EnactmentStatus.SUCCESS, "in_force"
        detail = said or f"{change.name} {told(change.before)} → {told(change.after)}"
        if not is_seen and not is_swap:
            status, code = EnactmentStatus.PARTIAL, "unseen"
            detail = "load-shed signal sent; whether it took hold cannot be seen"
        elif planned.is_less:
            status, code, detail = EnactmentStatus.PARTIAL, "bounded", f"{detail}: no further"
        outcome = "SUCCESS" if is_swap else ""
        return Done(status, detail, code, True, change.before, change.after, verdict, outcome)

    async def _fallen(
        self, action: ImprovementAction, config: OptimiserConfig, code: str, detail: str, outcome: str
    ) -> Done:
        change = self._book.changes.get(action.action_id)
        verdict = None
        if change is not None:
            step = changes.undo(change, Verdict.REVERTED, f"it failed: {detail}")
            change = await self._drive(step, config.verification or _RECOVERY, config.action_timeout_s)
            verdict = change.verdict
        is_swap = action.action_kind is ActionKind.HOT_SWAP_MODULE
        is_no = code in ("rejected", "shutdown")
        status = EnactmentStatus.SKIPPED if is_no else EnactmentStatus.FAILED
        told_of = (change.before, change.after) if change else (None, None)
        return Done(status, detail, code, code != "shutdown", *told_of, verdict, outcome if is_swap else "")

    def _never_took_hold(self, action: ImprovementAction, detail: str) -> None:
        """Nobody can see what is in force, and the subsystem said no: that must do."""
        change = self._book.changes.get(action.action_id)
        if change is not None:
            self._put_if_possible(
                changes.end(change, Verdict.REVERTED, detail, self._now_us(), is_restored=True).change
            )

    async def resume(self, config: OptimiserConfig) -> list[Change]:
        """Take every open change one step further; those that ended."""
        rules = config.verification
        ended = []
        for change in [changes.set_back(each, self._now_us()) for each in self._book.changes.values()]:
            if rules is None and change.state is ChangeState.SETTLING:
                reason = "nobody verifies here"
                step = changes.end(change, Verdict.INCONCLUSIVE, reason, self._now_us(), is_restored=False)
            elif change.state is ChangeState.UNDOING:
                step = Step(change, Do.UNDO)
            else:
                seen = await self._see(change, config.action_timeout_s)
                if seen is None:
                    continue
                step = changes.step(change, seen, rules or _RECOVERY)
            after = await self._drive(step, rules or _RECOVERY, config.action_timeout_s)
            if not after.is_open:
                ended.append(after)
        return ended

    async def revert(self, change: Change, reason: str, config: OptimiserConfig) -> Change:
        """Undo an open change at once."""
        step = changes.undo(change, Verdict.REVERTED, reason)
        return await self._drive(step, config.verification or _RECOVERY, config.action_timeout_s)

    async def _drive(self, step: Step, rules: Verification, timeout_s: float) -> Change:
        """Do what a step says; the change is kept before it is acted on.

        What cannot be kept is undone all the same: undoing is safe, and is done again after a kill.
        """
        change = step.change
        self._put_if_possible(change)
        if step.do is not Do.UNDO:
            return change
        seen = await self._see(change, timeout_s)
        if seen is None or not seen.is_readable or changes.same(seen.current, change.after):
            restored = await self._put_back(change, timeout_s)
            if restored is False or (restored and not self._hands.can_read(change.action_kind)):
                return self._ended_unseen(change, restored)
            seen = await self._see(change, timeout_s)
        # Only an attempt that was made counts, not one that a kill prevented; the next is made at the next occasion.
        change = changes.step(change, seen or Seen(self._now_us(), is_readable=False), rules).change
        self._put_if_possible(change)
        return change

    async def _put_back(self, change: Change, timeout_s: float) -> bool | None:
        """Whether what was before was asked for; None: it failed, and is tried again at the next occasion."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._hands.write(change, change.before, None)
        except NotDone as no:
            return False if no.outcome == CANNOT_UNDO else None
        except Exception:  # noqa: BLE001 - attempts are counted
            return None
        return True

    def _ended_unseen(self, change: Change, is_restored: bool) -> Change:
        verdict = (change.coming_to or Verdict.REVERTED) if is_restored else Verdict.INCONCLUSIVE
        reason = change.reason if is_restored else f"{change.reason}; it cannot be taken back"
        ended = changes.end(change, verdict, reason, self._now_us(), is_restored=is_restored).change
        self._put_if_possible(ended)
        return ended

    async def _see(self, change: Change, timeout_s: float) -> Seen | None:
        try:
            figures = self._figures_of(change.module_name, change.made_us)
            if not self._hands.can_read(change.action_kind):
                return Seen(self._now_us(), is_readable=False, figures=figures)
            async with asyncio.timeout(timeout_s):
                current = await self._hands.read(change.action_kind, change.module_name, change.name)
        except Exception:  # noqa: BLE001 - a port that cannot be read now is asked again
            return None
        return Seen(self._now_us(), current, figures=figures)

    def _figures_of(self, module: str, since_us: int | None) -> Figures | None:
        return self._figures.figures(module, since_us) if self._figures else None

    def _put(self, change: Change) -> None:
        self._book.put(change)
        self._keep()

    def _put_if_possible(self, change: Change) -> None:
        self._book.put(change)
        with suppress(Exception):
            self._keep()


def _version_of(action: ImprovementAction, *, needs_one: bool) -> str | None:
    given = dict(action.parameters)
    version = given["artifact"].partition("/")[2] if "artifact" in given else given.get("target_version")
    return version if version or needs_one else "auto"
