"""shadow: runs a candidate beside the incumbent on the same recorded input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from random import Random

from kloros.chembus.facts_work import ShadowFacts, TournamentFacts
from kloros.consumers.candidates import drift
from kloros.consumers.candidates.at_work import Company, at_work
from kloros.consumers.candidates.current import tables_in
from kloros.consumers.candidates.history import HISTORY_TABLES, RECORDED, History
from kloros.consumers.candidates.identity import proposal
from kloros.consumers.candidates.shadow_settings import ShadowSettings
from kloros.consumers.candidates.space import is_within, parameters_of, tables_of
from kloros.consumers.candidates.store import SHADOW_TABLES, Trial, forget_trials, put_trial, trials
from kloros.consumers.candidates.subject import Example, Outputs
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import ArtifactRefused, SubjectFailed
from kloros.storage.artifacts import artifacts_under, split_name, verify
from kloros.units import US_PER_S, us_to_seconds

_GIVEN_UP_AT_ONCE = 200
_MOST_AT_ONCE = 1_000


class ShadowDaemon(Consumer):
    """Records what history says, and on each beat lets each candidate decide again what was newly decided, beside the
    incumbent. Nothing that either decides has any effect."""

    zooid = "shadow_daemon"
    niche = "dream"
    ecosystem = "dream"
    schedule = "shadow_evaluation"
    signal = "Q_TRIGGER_SHADOW_EVAL"
    interval_s = 60.0
    consumes = (*RECORDED, "Q_TOURNAMENT_COMPLETE")
    tables = {**HISTORY_TABLES, **SHADOW_TABLES}

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), ShadowSettings, self.log)
        self._company = Company(self.place, self._own.current.others, self.log)
        self._on_trial = 0
        gauge = self.metrics.gauge("kloros_shadow_candidates", "Candidates on trial.")
        gauge.set_function(lambda: float(self._on_trial))
        self._verdicts = self.metrics.counter("kloros_shadow_verdicts_total", "Verdicts.", ("module", "verdict"))
        self._runs = self.metrics.counter(
            "kloros_shadow_runs_total", "Runs beside the incumbent.", ("module", "outcome")
        )

    # Recording

    def work(self, batch: Batch) -> None:
        history, now_us = History(batch.database), self.clock.wall_us()
        for message in batch.messages:
            if isinstance(message.facts, TournamentFacts):
                self._admit(batch, message.facts, history.number, now_us)
            elif not history.record(message, now_us):
                self.count("history_unknown")
        history.trim(self._own.current.history.limits())
        batch.processed = len(batch.messages)

    def _admit(self, batch: Batch, facts: TournamentFacts, number: int, now_us: int) -> None:
        """Begin the trial of a candidate that a tournament has proposed."""
        if facts.verdict != "proposed":
            return
        running = trials(batch.database, ended=False, most=_MOST_AT_ONCE)
        if facts.candidate_id in {each.candidate_id for each in running}:
            return
        try:
            begun = self._trial_of(facts, now_us)
            if len(running) >= self._own.current.candidates.at_once:
                raise ArtifactRefused(artifact=facts.artifact, reason=f"{len(running)} are tried already")
        except (ArtifactRefused, SubjectFailed) as error:
            self._refuse(batch, facts, str(error))
            return
        begun.progress.cursor = number
        put_trial(batch.database, begun)
        self.log.info("trial_begun", module=begun.module, candidate=begun.candidate_id, parameters=begun.parameters)

    def _trial_of(self, facts: TournamentFacts, now_us: int) -> Trial:
        module, version = split_name(facts.artifact or "")
        artifact = verify(artifacts_under(self.place.state), module, version, facts.sha256)
        subject, tables = self._company[module], tables_in(artifact)
        parameters = parameters_of(subject.space, tables)
        if not facts.candidate_id or not facts.sha256 or module != facts.module_name:
            raise ArtifactRefused(artifact=artifact.name, reason="it was proposed without its id, hash or module")
        if tables_of(parameters) != tables or not is_within(subject.space, parameters):
            raise ArtifactRefused(artifact=artifact.name, reason="it is not of the space that the module declares")
        return Trial(
            candidate_id=facts.candidate_id, module=module, artifact=artifact.name, sha256=facts.sha256,
            parameters=parameters, incumbent=self._company.incumbent(module), started_us=now_us,
            expected_gain=(facts.fitness or 0.0) - (facts.incumbent_fitness or 0.0),
        )  # fmt: skip

    def _refuse(self, batch: Batch, facts: TournamentFacts, reason: str) -> None:
        self.count("refused")
        self.log.warning("candidate_refused", candidate=facts.candidate_id, reason=reason)
        told = ShadowFacts(
            candidate=facts.candidate, incumbent=facts.incumbent, verdict="refused", artifact=facts.artifact,
            module_name=facts.module_name, detail=reason, sha256=facts.sha256, candidate_id=facts.candidate_id,
        )  # fmt: skip
        batch.emit("Q_SHADOW_VERDICT", told, incident_id=facts.candidate_id)

    # Trying

    def cycle(self, cycle: Cycle) -> None:
        if self._own.take():
            self._company = Company(self.place, self._own.current.others, self.log)
        now_us, history = self.clock.wall_us(), History(cycle)
        patience_us = round(self._own.current.history.patience_s * US_PER_S)
        history.give_up(now_us - patience_us, _GIVEN_UP_AT_ONCE)
        running = trials(cycle, ended=False, most=_MOST_AT_ONCE)
        for each in running:
            self._watch(each, now_us)
            if not self._is_moot(cycle, each, now_us):
                cycle.processed += self._run(each, history)
                self._judge(cycle, each, now_us)
            put_trial(cycle, each)
        forget_trials(cycle, self._own.current.candidates.remembered)
        self._on_trial = cycle.backlog = sum(each.ended_us is None for each in running)

    def _watch(self, each: Trial, now_us: int) -> None:
        """Only time in which we were there counts, whatever the clock says."""
        since_us = each.started_us if each.beat_us is None else each.beat_us
        gap_s = us_to_seconds(now_us - since_us)
        each.progress.observed_s += min(max(0.0, gap_s), self._own.current.trial.most_gap_s)
        each.beat_us = now_us

    def _is_moot(self, cycle: Cycle, each: Trial, now_us: int) -> bool:
        """Whether what it is compared with is in force no more."""
        try:
            incumbent = self._company.incumbent(each.module)
        except SubjectFailed as error:
            self._end(cycle, each, now_us, "expired", str(error))
            return True
        if incumbent == each.incumbent:
            return False
        same = " to just this" if incumbent == each.parameters else ""
        self._end(cycle, each, now_us, "expired", f"what is in force was changed{same} meanwhile")
        return True

    def _run(self, each: Trial, history: History) -> int:
        """Both on what has closed since the last run, if that is enough; returns how many decisions."""
        settings, progress = self._own.current, each.progress
        enough = 1 if drift.is_look_due(progress, settings.trial.limits()) else settings.trial.keys_per_run
        if history.closed_after(progress.cursor) < enough:
            return 0
        up_to = history.last_closed()
        try:
            examples = self._company.examples(each.module, history, up_to, settings.history.examples)
            new = [example for example in examples if example.closed > progress.cursor]
            if len(new) < enough:
                return 0
            incumbent = self._replay(each.module, each.incumbent, new)
        except SubjectFailed as error:
            self.count("incumbent_failed")
            self.log.error("incumbent_failed", module=each.module, reason=str(error))
            return 0
        progress.cursor = up_to
        self._compare(each, new, incumbent)
        return len(new)

    def _compare(self, each: Trial, new: Sequence[Example], incumbent: Outputs) -> None:
        try:
            candidate = self._replay(each.module, each.parameters, new)
            with at_work(each.module):
                run = drift.run_beside(self._company[each.module], new, incumbent, candidate)
        except SubjectFailed as error:
            drift.add_error(each.progress, error.reason)
            self._runs.labels(each.module, "failed").inc()
            self.log.warning("run_failed", candidate=each.candidate_id, reason=error.reason)
            return
        drift.add(each.progress, run, self._own.current.trial.keys_per_run)
        self._runs.labels(each.module, "ok").inc()
        self.log.info(
            "run_beside", candidate=each.candidate_id, module=each.module, keys=run.keys, drift=round(run.drift, 6),
            worse=run.worse, better=run.better,
        )  # fmt: skip

    def _replay(self, module: str, parameters: dict[str, float], examples: Sequence[Example]) -> Outputs:
        with at_work(module):
            return self._company[module].replay(parameters, examples)

    # Judging

    def _judge(self, cycle: Cycle, each: Trial, now_us: int) -> None:
        trial_settings, progress = self._own.current.trial, each.progress
        chance = Random(f"{trial_settings.seed}|{each.candidate_id}|{progress.looks}")
        found = drift.judge(progress, trial_settings.limits(), chance)
        if found is not None:
            self._end(cycle, each, now_us, *found)

    def _end(self, cycle: Cycle, each: Trial, now_us: int, verdict: drift.Verdict, detail: str) -> None:
        each.ended_us, each.verdict, each.detail = now_us, verdict, detail
        self._verdicts.labels(each.module, verdict).inc()
        progress = each.progress
        told = ShadowFacts(
            candidate=each.parameters, incumbent=each.incumbent, drift=min(1.0, progress.mean_drift), verdict=verdict,
            artifact=each.artifact, module_name=each.module, max_drift=min(1.0, progress.worst_drift),
            error_rate=progress.error_rate, runs=progress.runs, detail=detail, sha256=each.sha256,
            candidate_id=each.candidate_id, keys=progress.keys, observed_s=progress.observed_s,
        )  # fmt: skip
        cycle.emit("Q_SHADOW_VERDICT", told, incident_id=each.candidate_id)
        self.log.info("trial_ended", candidate=each.candidate_id, module=each.module, verdict=verdict, detail=detail)
        if verdict == "promote":
            self._propose(cycle, each, now_us)

    def _propose(self, cycle: Cycle, each: Trial, now_us: int) -> None:
        expires_us = now_us + round(self._own.current.candidates.expire_after_s * US_PER_S)
        proposed = proposal(
            each.module, each.artifact, each.sha256, candidate=each.candidate_id, source="shadow",
            priority=0.5 + each.expected_gain, rationale=f"better beside what is in force: {each.detail}",
            expires_ts=us_to_seconds(expires_us),
        )  # fmt: skip
        cycle.emit("Q_IMPROVEMENT_ACTION", proposed, incident_id=each.candidate_id)

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(ShadowDaemon))
