"""One action, from the gates to its change, or to the reason why there is none."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from kloros.optimisation import changes, gates, store
from kloros.optimisation.changes import Change
from kloros.optimisation.driver import Driver
from kloros.optimisation.effects import Around, NoEffect, aim_of, effect_of, name_of
from kloros.optimisation.flags import NEEDS_APPROVAL, WEAK, Trouble, severity_of, without_figures
from kloros.optimisation.gates import Answer, Decision, Standing
from kloros.optimisation.levers import Reading, Unfit
from kloros.optimisation.model import CHANGES, PLANNER, ActionKind, EnactmentStatus, Figures, ImprovementAction, Value
from kloros.optimisation.parsing import Refusal, parse
from kloros.optimisation.samples import Samples, baseline_of
from kloros.optimisation.step_journal import Journal, kind_label, word
from kloros.optimisation.store import Knob, Stage, Taken
from kloros.units import seconds_to_us, us_to_seconds

_SHADOW, _TOURNAMENT, _OPERATOR = "shadow", "tournament", "operator"
_SLACK = 1.5
_STATUS = {
    Answer.SKIP: EnactmentStatus.SKIPPED,
    Answer.LIMIT: EnactmentStatus.RATE_LIMITED,
    Answer.REFUSE: EnactmentStatus.FAILED,
}


class Enactor:
    """Lets actions pass the gates, within one cycle."""

    def __init__(self, journal: Journal, driver: Driver) -> None:
        self._journal, self._driver = journal, driver
        self._samples = Samples(journal.cycle, journal.settings)
        self.acted = 0

    def enact(self, taken: Taken) -> None:
        """Let an action that is queued pass the gates, and do it if it does."""
        self._journal.desk.metrics.enact_called()
        taken.started_us = self._journal.now_us()
        parsed = parse(taken.raw)
        is_off = isinstance(parsed, Refusal) or self._journal.config.mode_of(parsed.action_kind) == "off"
        if not isinstance(parsed, Refusal) and parsed.action_kind is ActionKind.HOT_SWAP_MODULE and not is_off:
            try:
                self._check_swap(parsed)
            except Unfit as unfit:
                self._refuse(taken, parsed, unfit)
                return
        decision = gates.decide(self._journal.gates, taken.raw, self._standing(), self._journal.config)
        taken.gate, taken.reason_code = str(decision.gate), decision.reason_code
        self._follow(taken, decision)

    def _follow(self, taken: Taken, decision: Decision) -> None:
        action = decision.action
        if decision.answer is Answer.GO:
            self._begin(taken, action)
            return
        if decision.answer is Answer.FLAG:
            taken.flag_id = self._journal.register.raise_flag(self._flag_of(taken, action))
            kept = EnactmentStatus.SUCCESS if taken.flag_id else EnactmentStatus.FAILED
            self._journal.end(taken, kept, decision.detail if taken.flag_id else "too many flags are open")
            return
        if decision.answer is Answer.ASK:
            self._ask(taken, action)
            return
        if decision.answer is Answer.DEFER:
            self._defer(taken, decision.detail)
            return
        if decision.answer is Answer.LIMIT:
            self._journal.desk.metrics.rate_limited(action.module_name, action.action_kind)
        if decision.must_flag:
            taken.flag_id = self._journal.register.raise_flag(
                self._trouble(action, decision.reason_code, decision.detail)
            )
        detail = decision.detail
        if decision.reason_code in ("observed", "dry_run") and action.action_kind in CHANGES:
            detail = _would(action, self._foreseen(action), detail)
        self._journal.end(taken, _STATUS[decision.answer], detail)

    def _check_swap(self, action: ImprovementAction) -> None:
        """Only what the shadow has tried or a person staged and wants, and what is staged just so. Raises Unfit."""
        given = dict(action.parameters)
        source = given.get("source", "")
        if source == _TOURNAMENT:
            raise Unfit("not_tried", "the tournament proposes it; it is enacted once the shadow has tried it")
        if source not in (_SHADOW, _OPERATOR):
            told = f"{source[:60]!r} may not propose a swap; the shadow does what it has tried, and a person may"
            raise Unfit("not_tried", told, must_flag=True)
        version = self._journal.desk.versions.check(action.module_name, given)
        if source == _OPERATOR:
            return
        candidate, sha256 = given.get("candidate_id", ""), given["sha256"]
        name = f"{action.module_name}/{version}"
        if self._journal.settings.hot_swap.require_verdict and not store.is_promoted(
            self._journal.cycle, candidate, name, sha256
        ):
            told = f"the shadow's last word on {candidate[:60]!r} is not to promote {name}"
            raise Unfit("no_verdict", told, must_flag=True)

    def _refuse(self, taken: Taken, action: ImprovementAction, unfit: Unfit) -> None:
        taken.gate, taken.reason_code = "act", unfit.reason_code
        if unfit.must_flag:
            taken.flag_id = self._journal.register.raise_flag(self._trouble(action, unfit.reason_code, str(unfit)))
        if action.action_kind is ActionKind.HOT_SWAP_MODULE:
            self._journal.desk.metrics.swapped(action.module_name, "REJECTED")
        self._journal.end(taken, EnactmentStatus.SKIPPED, str(unfit))

    def _ask(self, taken: Taken, action: ImprovementAction) -> None:
        """A person must agree: until it expires, or nobody did in time."""
        now_us = self._journal.now_us()
        latest_us = now_us + seconds_to_us(self._journal.settings.approvals.valid_s)
        own_us = latest_us if action.expires_at is None else seconds_to_us(action.expires_at)
        taken.stage, taken.waits_for, taken.expires_us = Stage.WAITING, "approval", min(latest_us, own_us)
        foreseen = self._foreseen(action)
        if isinstance(foreseen, Change):
            taken.before, taken.after = foreseen.before, foreseen.after
        trouble = Trouble(
            action.module_name, action.action_kind, NEEDS_APPROVAL,
            f"{_would(action, foreseen)} (until {_iso(taken.expires_us)}): {action.rationale}",
            severity_of(action.priority), taken.action_id, cure="kloros review approve FLAG, or reject",
            sameness=taken.action_id,
        )  # fmt: skip
        taken.flag_id = self._journal.register.raise_flag(trouble)
        if taken.flag_id is None:  # who cannot be asked has not agreed
            self._journal.end(
                taken, EnactmentStatus.SKIPPED, "it needs approval, and too many flags are open to ask for it"
            )
            return
        self._journal.keep(taken)

    def _defer(self, taken: Taken, why: str) -> None:
        waited_s = us_to_seconds(self._journal.now_us() - (taken.decided_us or taken.taken_us))
        if waited_s > self._journal.settings.limits.wait_at_most_s:
            self._journal.end(taken, EnactmentStatus.SKIPPED, f"it waited for {waited_s:.0f} s: {why}")
            return
        if taken.waits_for is None:
            self._journal.desk.metrics.enacted(kind_label(taken.kind), "DEFERRED", 0.0)
        taken.waits_for = why
        self._journal.keep(taken)

    def _begin(self, taken: Taken, action: ImprovementAction) -> None:
        """Write the change ahead, make it, and see that it is made."""
        now_us = self._journal.now_us()
        try:
            change, knob, is_less = self._planned(taken, action, now_us)
            _require_as_approved(taken, change)
        except Unfit as unfit:
            gates.untake(self._journal.gates, action, self._journal.gates.seen[action.action_id])
            self._refuse(taken, action, unfit)
            return
        if why := self._journal.desk.paused():
            gates.untake(self._journal.gates, action, self._journal.gates.seen[action.action_id])
            taken.gate, taken.reason_code = "paused", "paused"
            self._journal.end(taken, EnactmentStatus.SKIPPED, f"paused: {why}")
            return
        self.acted += 1
        taken.stage, taken.change_id, taken.waits_for = Stage.ACTING, change.change_id, None
        taken.before, taken.after, taken.mode = (
            change.before,
            change.after,
            self._journal.config.mode_of(action.action_kind),
        )
        if knob is not None:
            store.put_knob(self._journal.cycle, knob)
        store.put_change(self._journal.cycle, change)
        self._journal.keep(taken)  # from here on a kill finds it
        self._journal.log.info(
            "change_written", change_id=change.change_id, kind=change.action_kind, module=change.module_name,
            name=change.name, before=change.before, after=change.after,
        )  # fmt: skip
        self._driver.make(change, taken, is_less)

    def _planned(
        self, taken: Taken, action: ImprovementAction, now_us: int
    ) -> tuple[Change, Knob | None, bool]:  # fmt: skip
        kind, module, name = action.action_kind, action.module_name, name_of(action)
        reading = self._journal.desk.levers[kind].read(module, name)
        if not reading.is_readable:
            raise Unfit("not_there", reading.why)
        held = store.knob(self._journal.cycle, kind, module, name)
        is_less, after = False, reading.value
        if kind is ActionKind.HOT_SWAP_MODULE:
            self._journal.desk.versions.require_helper()
            after = dict(action.parameters)["artifact"].partition("/")[2]
            if after == reading.value:
                raise Unfit("at_its_bound", f"{module} runs with {after} already")
        else:
            after, is_less = self._effect(action, reading, held)
        baseline = baseline_of(self._figures_before(module, now_us), kind)
        change = Change(
            change_id=f"x-{_digest(taken.action_id, str(now_us))[:8]}", action_kind=kind, module_name=module, name=name,
            before=reading.value, after=after, written_us=now_us, aim=aim_of(action), baseline=baseline,
            lease_until_us=now_us + self._lease_us(kind, baseline),
            parameters=(*action.parameters, ("held", "yes" if held is not None else "no")),
        )  # fmt: skip
        if kind is ActionKind.HOT_SWAP_MODULE:
            return change, None, False
        origin = held.origin if held is not None else reading.value
        knob = Knob(kind=kind, module=module, name=name, value=after, origin=origin, until_us=change.lease_until_us)
        return change, knob, is_less

    def _effect(self, action: ImprovementAction, reading: Reading, held: Knob | None) -> tuple[Value, bool]:
        module, kind = action.module_name, action.action_kind
        current = float(reading.value) if isinstance(reading.value, float | int) else 1.0
        origin = float(held.origin) if held is not None and isinstance(held.origin, float | int) else current
        around = Around(current, origin)
        if kind is ActionKind.TUNE_THRESHOLD:
            around = Around(current, origin, self._threshold(module, "95"), self._threshold(module, "99"))
        effect = effect_of(action, around, self._journal.config.limits)
        if isinstance(effect, NoEffect):
            raise Unfit(effect.reason_code, effect.detail, must_flag=effect.is_refusal)
        after, is_less = effect.after, effect.is_less
        most_s = self._journal.settings.bounds.budget_at_most_s
        if kind is ActionKind.INCREASE_BUDGET and isinstance(after, float | int) and after > most_s:
            after, is_less = max(most_s, current), True
            if changes.same(after, current):
                raise Unfit("at_its_bound", f"the budget stays at {current:g} s: {most_s:g} s is the most")
        return after, is_less

    def _threshold(self, module: str, percentile: str) -> float | None:
        found = self._journal.desk.levers[ActionKind.TUNE_THRESHOLD].read(module, f"latency_p{percentile}_threshold_ms")
        return float(found.value) if isinstance(found.value, float | int) else None

    def end_waiting(self, taken: Taken, reason_code: str, detail: str) -> None:
        """An action that waited is not done."""
        taken.gate, taken.reason_code = "approval", reason_code
        self._journal.end(taken, EnactmentStatus.SKIPPED, detail)

    def give_up(self, taken: Taken, why: str) -> None:
        """Something in it is more than we can take. What it may have changed is found under way, and ended."""
        if taken.change_id is not None:
            return
        taken.reason_code = "raised"
        self._journal.end(taken, EnactmentStatus.FAILED, why)

    def let_pass(self, taken: Taken) -> None:
        """A person approved it: it goes through the gates again, and this one is open."""
        now_us = self._journal.now_us()
        gates.approve(self._journal.gates, taken.action_id, now_us, self._journal.settings.approvals.valid_s)
        taken.stage, taken.waits_for = Stage.QUEUED, None
        self._journal.keep(taken)

    def _standing(self) -> Standing:
        now_us, (unhealthy, modules) = self._journal.now_us(), self._journal.desk.health()
        busy = {each.module_name for each in store.open_changes(self._journal.cycle)}
        by_daemon = {self._journal.desk.versions.daemon_of(each) for each in busy}
        named = {name for name, stem in self._journal.desk.versions.modules.items() if stem in by_daemon}
        return Standing(now_us, now_us, busy | by_daemon | named, unhealthy, modules, 0, self._journal.desk.paused())

    def _figures_before(self, module: str, now_us: int) -> Figures | None:
        return self._samples.before(self._journal.desk.versions.daemon_of(module), now_us)

    def _lease_us(self, kind: ActionKind, baseline: Figures | None) -> int:
        """Long enough for as many cycles as it takes to judge, of a module with rare ones too."""
        settings = self._journal.settings
        if kind is ActionKind.HOT_SWAP_MODULE:
            return seconds_to_us(settings.hot_swap.lease_s)
        needed_s = 0.0
        if baseline is not None and baseline.calls > 1:
            every_s = baseline.window_s / baseline.calls
            needed_s = settings.verification.settle_s + _SLACK * settings.verification.min_samples * every_s
        return seconds_to_us(max(settings.verification.lease_s, min(needed_s, settings.hot_swap.lease_s)))

    def _foreseen(self, action: ImprovementAction) -> Change | Unfit:
        """What an action would come to if it were done now."""
        try:
            return self._planned(_nobody_yet(action), action, self._journal.now_us())[0]
        except Unfit as unfit:
            return unfit

    def _flag_of(self, taken: Taken, action: ImprovementAction) -> Trouble:
        """An action that is a flag."""
        given = dict(action.parameters)
        return Trouble(
            action.module_name, action.action_kind, WEAK if taken.source == PLANNER else "flagged",
            action.rationale or "it was flagged for review",
            severity_of(action.priority), action.action_id, tuple(f"{key}={value}" for key, value in given.items()),
            given.get("cure"), sameness=without_figures(action.rationale),
        )  # fmt: skip

    def _trouble(self, action: ImprovementAction, reason: str, detail: str) -> Trouble:
        return Trouble(
            action.module_name, action.action_kind, reason, f"{action.action_kind} {action.module_name}: {detail}",
            severity_of(action.priority), action.action_id,
            tuple(f"{key}={value}"[:200] for key, value in action.parameters),
            sameness=without_figures(detail),
        )  # fmt: skip


def _nobody_yet(action: ImprovementAction) -> Taken:
    return Taken(
        action_id=action.action_id, seq=0, stage=Stage.QUEUED, module=action.module_name, kind=action.action_kind,
        raw={},
    )  # fmt: skip


def _would(action: ImprovementAction, foreseen: Change | Unfit, otherwise: str = "it would be asked for") -> str:
    if isinstance(foreseen, Unfit):
        return f"{otherwise}, and could not: {foreseen}"
    told = f"from {word(foreseen.before)} to {word(foreseen.after)}"
    return f"{action.action_kind} would set {foreseen.name} of {foreseen.module_name} {told}"


def _require_as_approved(taken: Taken, change: Change) -> None:
    """What a person said yes to is done, and nothing else. Raises Unfit."""
    if taken.decided_by is None or taken.decided_us is None:
        return
    if changes.same(taken.before, change.before) and changes.same(taken.after, change.after):
        return
    approved = f"{word(taken.before)} to {word(taken.after)}"
    told = f"{approved} was approved, and it would now be {word(change.before)} to {word(change.after)}"
    raise Unfit("changed_meanwhile", told)


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _iso(moment_us: int) -> str:
    return datetime.fromtimestamp(us_to_seconds(moment_us), UTC).strftime("%Y-%m-%d %H:%M UTC")
