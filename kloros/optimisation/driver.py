"""One change, from just after it was written ahead to its one end. What it says is kept before it is done.

After a kill at any moment `take_up_again` goes on, with what is then in force.
"""

from __future__ import annotations

import msgspec

from kloros.chembus.facts_work import ReflectionFacts
from kloros.optimisation import changes, gates, store
from kloros.optimisation.changes import Change, ChangeState, Do, Seen, Step
from kloros.optimisation.flags import Trouble
from kloros.optimisation.levers import NotDone, Reading, Unfit, Wanted
from kloros.optimisation.model import ActionKind, EnactmentStatus, Value, Verdict
from kloros.optimisation.samples import Samples, told
from kloros.optimisation.settings import verification_of
from kloros.optimisation.step_journal import INFO, WARNING, Journal, word
from kloros.optimisation.store import Stage, Taken
from kloros.units import seconds_to_us, us_to_seconds

LEASE_MARGIN_S = 300.0
"""Whoever obeys is told so much longer than the lease: while the optimiser lives, it takes a change back itself."""
_MOST_STEPS = 8


class Driver:
    """Drives changes within one cycle."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._rules = verification_of(journal.settings)
        self._samples = Samples(journal.cycle, journal.settings)

    def make(self, change: Change, taken: Taken, is_less: bool) -> None:
        try:
            self._journal.desk.levers[change.action_kind].put(
                self._wanted(change, change.after), self._journal.desk.hand
            )
        except (NotDone, Unfit) as failure:
            self._journal.log.warning("change_failed", change_id=change.change_id, reason=str(failure))
            gates.failed(self._journal.gates, self._journal.now_us(), self._journal.config)
            step = changes.undo(change, Verdict.REVERTED, str(failure))
            self._drive(step)
            return
        change = changes.made(change, self._journal.now_us())
        if change.action_kind is ActionKind.HOT_SWAP_MODULE:
            pid = self._journal.desk.versions.pid_of(self._daemon_of(change))
            change = msgspec.structs.replace(change, pid=pid)
        self._made(change, taken, is_less)

    def _made(self, change: Change, taken: Taken | None, is_less: bool = False) -> None:
        """It is in force: that is what the action asked for, whether it helps is seen later."""
        knob = store.knob(self._journal.cycle, change.action_kind, change.module_name, change.name)
        if knob is not None:
            knob.is_acked = True
            store.put_knob(self._journal.cycle, knob)
        store.put_change(self._journal.cycle, change)
        if change.action_kind is ActionKind.HOT_SWAP_MODULE:
            self._journal.desk.metrics.swapped(change.module_name, "SUCCESS")
        if taken is None or taken.stage is Stage.ENDED:
            self._journal.commit()
            return
        status = EnactmentStatus.PARTIAL if is_less else EnactmentStatus.SUCCESS
        told = f"{change.name} {word(change.before)} -> {word(change.after)}, to be verified"
        self._journal.end(taken, status, f"{told} (less than was asked for)" if is_less else told)

    def take_up_again(self, change: Change) -> None:
        """It was under way when an earlier life, or an earlier beat, ended."""
        self._journal.log.warning("change_found_under_way", change_id=change.change_id, state=str(change.state))
        is_swap = change.action_kind is ActionKind.HOT_SWAP_MODULE
        reading = self._read(change)
        if change.state is ChangeState.WRITTEN and is_swap and reading.value == change.after:
            if why := self._journal.desk.paused():
                self._drive(changes.undo(change, Verdict.REVERTED, f"it was cut short, and now all is paused: {why}"))
                return
            # The pointer leads there; whether the unit was restarted nobody knows.
            self.make(change, store.action_of(self._journal.cycle, change.change_id) or _nobody(change), False)
            return
        if change.state is ChangeState.UNDOING:
            self._drive(Step(change, Do.UNDO))
            return
        self._drive(changes.step(change, Seen(self._journal.now_us(), reading.value, reading.is_readable), self._rules))

    def verify(self, change: Change) -> None:
        """Judge a change that was made."""
        now_us, reading = self._journal.now_us(), self._read(change)
        change = changes.set_back(change, now_us)
        if change.action_kind is ActionKind.HOT_SWAP_MODULE:
            self._drive(self._on_probation(change, reading, now_us))
            return
        has_lapsed = now_us >= change.lease_until_us and reading.is_readable
        if has_lapsed and changes.same(reading.value, change.before):
            told = "nothing spoke for it until its lease lapsed"
            self._drive(changes.end(change, Verdict.INCONCLUSIVE, told, now_us, is_restored=True))
            return
        figures = self._samples.since(change, self._daemon_of(change), now_us)
        seen = Seen(now_us, reading.value, reading.is_readable, figures)
        self._drive(changes.step(change, seen, self._rules))

    def _on_probation(self, change: Change, reading: Reading, now_us: int) -> Step:
        """So many good cycles, no bad one, a heart that goes on beating, and figures that are not worse."""
        settings, stem = self._journal.settings.hot_swap, self._daemon_of(change)
        since_us = change.made_us or change.written_us
        if not reading.is_readable or reading.value != change.after:
            told = f"somebody else changed it ({reading.why or word(reading.value)})"
            return changes.end(change, Verdict.INCONCLUSIVE, told, now_us, is_restored=False)
        good, bad = self._samples.good_and_bad(stem, since_us, now_us)
        if bad > settings.bad_cycles:
            return changes.undo(change, Verdict.REVERTED, f"{bad} of {good + bad} cycles failed on probation")
        if why := self._journal.desk.versions.lost_since(stem, since_us, change.pid):
            return changes.undo(change, Verdict.REVERTED, f"{why} on probation")
        if good >= settings.probation_cycles and (verdict_told := self._compared(change, stem, now_us)) is not None:
            verdict, told = verdict_told
            if verdict is Verdict.REVERTED:
                return changes.undo(change, verdict, told)
            told = f"{good} good cycles on probation"
            return changes.end(change, Verdict.CONFIRMED, told, now_us, is_restored=False)
        if now_us >= change.lease_until_us:
            return changes.undo(change, Verdict.INCONCLUSIVE, "too few cycles until its probation was over")
        return Step(change, Do.WAIT)

    def _compared(self, change: Change, stem: str, now_us: int) -> tuple[Verdict, str] | None:
        """What the figures since the swap say; None while there are too few to compare with those from before."""
        figures, baseline = self._samples.since(change, stem, now_us), change.baseline
        if baseline is None or baseline.calls < self._rules.min_samples:
            return Verdict.INCONCLUSIVE, "too little is known of before"
        if figures is None or figures.calls < self._rules.min_samples:
            return None
        return changes.compare(baseline, figures, change.aim, self._rules)

    def revert(self, change: Change, reason: str) -> None:
        """Put back what was before, at once."""
        self._drive(changes.undo(change, Verdict.REVERTED, reason))

    def _drive(self, step: Step) -> None:
        """Follow a change as far as it goes now; each state is kept before what it asks for is done."""
        for _ in range(_MOST_STEPS):
            change = step.change
            if step.do is Do.END:
                self._finish(change)
                return
            store.put_change(self._journal.cycle, change)
            if step.do is Do.WAIT:
                taken = store.action_of(self._journal.cycle, change.change_id)
                if change.state is ChangeState.SETTLING and taken is not None and taken.stage is not Stage.ENDED:
                    self._made(change, taken)
                return
            self._journal.commit()
            if step.do is not Do.UNDO:
                return
            failure = self._put_back(change)
            reading = self._read(change)
            if failure and change.action_kind is ActionKind.HOT_SWAP_MODULE:
                reading = Reading(None, False, failure)  # the pointer is back, but the unit does not serve
            step = changes.step(change, Seen(self._journal.now_us(), reading.value, reading.is_readable), self._rules)
            if step.do is Do.UNDO and failure:
                store.put_change(self._journal.cycle, step.change)
                self._journal.commit()
                return  # it is tried again at the next beat

    def _put_back(self, change: Change) -> str:
        """Returns what went wrong."""
        self._want_before(change)
        self._journal.commit()
        try:
            self._journal.desk.levers[change.action_kind].put(
                self._wanted(change, change.before), self._journal.desk.hand
            )
        except (NotDone, Unfit) as failure:
            self._journal.log.error("change_not_undone", change_id=change.change_id, reason=str(failure))
            return str(failure)
        return ""

    def _want_before(self, change: Change) -> None:
        """Of the thing is wanted what was wanted before the change."""
        knob = store.knob(self._journal.cycle, change.action_kind, change.module_name, change.name)
        if knob is None:
            return
        if dict(change.parameters).get("held") == "yes":
            knob.value, knob.until_us, knob.is_confirmed = change.before, None, True
            store.put_knob(self._journal.cycle, knob)
        else:
            store.drop_knob(self._journal.cycle, knob.kind, knob.module, knob.name)

    def _finish(self, change: Change) -> None:
        """The one end of a change, kept and told."""
        knob = store.knob(self._journal.cycle, change.action_kind, change.module_name, change.name)
        if knob is not None and change.verdict is Verdict.CONFIRMED:
            knob.is_confirmed, knob.until_us = True, None
            store.put_knob(self._journal.cycle, knob)
        elif knob is not None and change.is_restored:
            self._want_before(change)
        elif knob is not None:  # somebody else has changed it: it is theirs
            store.drop_knob(self._journal.cycle, knob.kind, knob.module, knob.name)
        store.put_change(self._journal.cycle, change)
        after = self._samples.since(change, self._daemon_of(change), self._journal.now_us())
        taken = store.action_of(self._journal.cycle, change.change_id)
        facts = ReflectionFacts(
            action_id=taken.action_id if taken else change.change_id, verdict=str(change.verdict),
            module_name=change.module_name, before=told(change.baseline), after=told(after), detail=change.reason,
            action_kind=change.action_kind, change_id=change.change_id, name=change.name, old_value=change.before,
            new_value=change.after, is_restored=change.is_restored,
            duration_s=max(0.0, us_to_seconds((change.ended_us or 0) - change.written_us)),
        )  # fmt: skip
        self._journal.cycle.emit("Q_REFLECTION_REPORT", facts, incident_id=facts.action_id)
        self._journal.log.log(
            INFO if change.verdict is Verdict.CONFIRMED else WARNING, "change_ended", change_id=change.change_id,
            verdict=str(change.verdict), reason=change.reason, module=change.module_name, name=change.name,
            before=change.before, after=change.after, restored=change.is_restored,
        )  # fmt: skip
        self._flag_end(change, taken)
        if taken is not None and taken.stage is not Stage.ENDED:
            taken.reason_code = "not_made"
            self._journal.end(taken, EnactmentStatus.FAILED, change.reason)
        else:
            self._journal.commit()

    def _flag_end(self, change: Change, taken: Taken | None) -> None:
        """A swap that went back, and whatever could not be put back, is a person's business."""
        is_swap = change.action_kind is ActionKind.HOT_SWAP_MODULE
        is_stuck = change.undo_attempts > 0 and not change.is_restored
        if not is_stuck and not (is_swap and change.verdict is not Verdict.CONFIRMED):
            return
        action_id = taken.action_id if taken else None
        back = f"{word(change.before)} is in force again" if change.is_restored else "it is not back"
        reason = "not_restored" if is_stuck else "swap_reverted"
        trouble = Trouble(
            change.module_name, change.action_kind, reason,
            f"{change.name} {word(change.before)} -> {word(change.after)}: {change.reason}; {back}",
            "critical" if is_stuck else "high", action_id,
            cure=f"kloros optimiser explain {action_id or change.change_id}",
        )  # fmt: skip
        flag_id = self._journal.register.raise_flag(trouble)
        if is_swap:
            self._journal.desk.metrics.swapped(change.module_name, "SWAP_ERROR")
        if taken is not None:
            taken.flag_id = flag_id

    def _daemon_of(self, change: Change) -> str:
        return self._journal.desk.versions.daemon_of(change.module_name)

    def _read(self, change: Change) -> Reading:
        return self._journal.desk.levers[change.action_kind].read(change.module_name, change.name)

    def _wanted(self, change: Change, value: Value) -> Wanted:
        is_back = changes.same(value, change.before)
        is_own = is_back and dict(change.parameters).get("held") != "yes"
        until_us = change.lease_until_us + seconds_to_us(LEASE_MARGIN_S)
        return Wanted(change.module_name, change.name, value, until_us, change.change_id, is_own)


def _nobody(change: Change) -> Taken:
    """Whoever asked for the change is forgotten."""
    return Taken(
        action_id=change.change_id, seq=0, stage=Stage.ENDED, module=change.module_name, kind=change.action_kind, raw={}
    )
