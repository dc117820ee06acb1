"""tournament_consumer: plays candidates for parameters against recorded history."""

from __future__ import annotations

import sys

from kloros.chembus.facts_work import ShadowFacts, TournamentFacts
from kloros.consumers.candidates import tournament as play
from kloros.consumers.candidates import turns as turn
from kloros.consumers.candidates.at_work import Company, at_work
from kloros.consumers.candidates.current import parameters_text
from kloros.consumers.candidates.history import HISTORY_TABLES, RECORDED, History
from kloros.consumers.candidates.identity import candidate_id, proposal, version_of
from kloros.consumers.candidates.store import TOURNAMENT_TABLES, Ended, add_tournament
from kloros.consumers.candidates.tournament import Judgement, Readiness, Tournament
from kloros.consumers.candidates.tournament_settings import TournamentSettings
from kloros.consumers.candidates.turns import Turns
from kloros.daemon.batch import Batch
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.errors import ArtifactRefused, SubjectFailed
from kloros.storage.artifacts import PARAMETERS, Artifact, artifacts_under, prune, stage
from kloros.units import US_PER_S, us_to_seconds

TURNS = "turns"
_GIVEN_UP_AT_ONCE = 200


class TournamentConsumerDaemon(Consumer):
    """Records what history says, and on each beat plays one round. Who proved better on history that it was not chosen
    on is staged as an artifact and proposed."""

    zooid = "tournament_consumer_daemon"
    niche = "dream"
    ecosystem = "dream"
    schedule = "tournament_evaluation"
    signal = "Q_TRIGGER_TOURNAMENT"
    interval_s = 15.0
    consumes = (*RECORDED, "Q_SHADOW_VERDICT")
    tables = {**HISTORY_TABLES, **TOURNAMENT_TABLES}

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), TournamentSettings, self.log)
        self._company = Company(self.place, self._own.current.others, self.log)
        self._rounds = self.metrics.counter("kloros_tournament_rounds_total", "Rounds played.", ("module",))
        self._ended = self.metrics.counter("kloros_tournaments_total", "Tournaments ended.", ("module", "verdict"))

    # Recording

    def work(self, batch: Batch) -> None:
        history, now_us = History(batch.database), self.clock.wall_us()
        for message in batch.messages:
            if isinstance(message.facts, ShadowFacts):
                self._end_trial(batch, message.facts)
            elif not history.record(message, now_us):
                self.count("history_unknown")
        history.trim(self._own.current.history.limits())
        batch.processed = len(batch.messages)

    @staticmethod
    def _end_trial(batch: Batch, facts: ShadowFacts) -> None:
        turns = batch.load(TURNS, Turns) or Turns()
        if facts.module_name in turns.on_trial:
            del turns.on_trial[facts.module_name]
            batch.save(TURNS, turns)

    # Playing

    def cycle(self, cycle: Cycle) -> None:
        if self._own.take():
            self._company = Company(self.place, self._own.current.others, self.log)
        now_us, history = self.clock.wall_us(), History(cycle)
        turns = cycle.load(TURNS, Turns) or Turns()
        patience_us = round(self._own.current.history.patience_s * US_PER_S)
        history.give_up(now_us - patience_us, _GIVEN_UP_AT_ONCE)
        pauses = self._own.current.pauses()
        if not turn.is_broken(turns, now_us, pauses):
            if turn.may_begin(turns, now_us, pauses):
                self._look_for_players(turns, history, now_us)
                self._begin(turns, history, now_us)
            if turns.current is not None:
                self._play(cycle, turns, turns.current, history)
        cycle.backlog = len(turns.waiting)
        cycle.save(TURNS, turns)

    def _look_for_players(self, turns: Turns, history: History, now_us: int) -> None:
        """Whoever has history enough, and no candidate on trial, waits for a turn."""
        settings, up_to = self._own.current, history.last_closed()
        if up_to == turns.looked_to:
            return
        turns.looked_to = up_to
        for module in self._company.subjects:
            if lack := self._company.lack(module):
                turns.ready[module] = Readiness(reason=lack)
                continue
            try:
                examples = self._company.examples(module, history, up_to, settings.history.examples)
            except SubjectFailed as error:
                turns.ready[module] = Readiness(reason=str(error))
                self._fail(turns, now_us, error)
                continue
            turns.ready[module] = play.readiness(examples, turns.judged_to.get(module, 0), settings.rules())
            is_free = turns.ready[module].is_ready and not turn.is_on_trial(turns, module, now_us)
            if is_free and not turn.join(turns, module, settings.pauses()):
                self.count("waiting_list_refused")
                self.log.warning("waiting_list_refused", module=module, waiting=len(turns.waiting))
        turns.ready = {module: each for module, each in turns.ready.items() if module in self._company.subjects}

    def _begin(self, turns: Turns, history: History, now_us: int) -> None:
        while turns.waiting and turns.current is None:
            module, up_to = turns.waiting.pop(0), history.last_closed()
            try:
                incumbent = self._company.incumbent(module)
                turns.current = Tournament(
                    tournament_id=play.tournament_id(module, up_to, incumbent), module=module, started_us=now_us,
                    incumbent=incumbent, cut=turns.judged_to.get(module, 0), up_to=up_to,
                )  # fmt: skip
            except SubjectFailed as error:
                self.log.warning("tournament_not_begun", reason=str(error))

    def _play(self, cycle: Cycle, turns: Turns, current: Tournament, history: History) -> None:
        settings = self._own.current
        rules = settings.rules()
        try:
            subject = self._company[current.module]
            examples = self._company.examples(current.module, history, current.up_to, settings.history.examples)
            share = play.share_out(examples, current.cut, rules)
            with at_work(current.module):
                champion = play.play(subject, share.play, current, rules)
                judged = play.judge(subject, share, current, rules) if play.is_over(current, rules) else None
        except SubjectFailed as error:
            if self._fail(turns, self.clock.wall_us(), error):
                champion = current.champions[-1] if current.champions else play.unplayed(current)
                self._end(cycle, turns, current, Judgement("failed", str(error), champion), 0)
            return
        cycle.processed = 1
        self._rounds.labels(current.module).inc()
        cycle.log.info(
            "round_played", module=current.module, tournament=current.tournament_id, round=current.rounds,
            fitness=round(champion.fitness, 6), cost=round(champion.cost, 3), parameters=champion.parameters,
        )  # fmt: skip
        if judged is not None:
            self._end(cycle, turns, current, judged, len(share.held_out))

    def _fail(self, turns: Turns, now_us: int, error: SubjectFailed) -> bool:
        """Count a failure; returns whether that was one too many."""
        self.count("failures")
        self.log.error("subject_failed", reason=str(error))
        if not turn.note_failure(turns, now_us, self._own.current.pauses()):
            return False
        self.count("breaker_opened")
        self.log.error("breaker_opened", pause_s=self._own.current.turns.failures_pause_s)
        return True

    # Ending

    def _end(self, cycle: Cycle, turns: Turns, current: Tournament, judged: Judgement, held_out: int) -> None:
        now_us, proposals = self.clock.wall_us(), self._own.current.proposals
        turns.current, turns.ended_us, turns.played = None, now_us, turns.played + 1
        turns.looked_to = -1
        turns.judged_to[current.module] = current.up_to
        ended = Ended(
            tournament_id=current.tournament_id, module=current.module, started_us=current.started_us, ended_us=now_us,
            rounds=current.rounds, verdict=judged.verdict, detail=judged.detail, parameters=judged.champion.parameters,
            incumbent=current.incumbent, champions=[each.fitness for each in current.champions], held_out=held_out,
        )  # fmt: skip
        if judged.comparison is not None:
            ended.fitness, ended.incumbent_fitness = (
                judged.comparison.candidate.fitness,
                judged.comparison.incumbent.fitness,
            )
            ended.p_value = judged.comparison.p_value
        artifact = self._stage(ended) if judged.verdict == "proposed" else None
        if artifact is not None:
            expires_us = now_us + round(proposals.expire_after_s * US_PER_S)
            turns.on_trial[current.module] = expires_us
            self._propose(cycle, ended, artifact, expires_us)
        self._announce(cycle, ended, artifact)
        add_tournament(cycle, ended, proposals.keep_tournaments)

    def _stage(self, ended: Ended) -> Artifact | None:
        """The winner's parameters on the disk; None, and a verdict that says so, when they cannot be."""
        root, text = artifacts_under(self.place.state), parameters_text(ended.parameters)
        about = {"tournament": ended.tournament_id, "found": ended.detail}
        try:
            artifact = stage(root, ended.module, version_of(text), {PARAMETERS: text.encode()}, about)
            prune(root, ended.module, self._own.current.proposals.keep_artifacts, spare=[artifact.version])
        except (ArtifactRefused, OSError) as error:
            self.log.error("artifact_not_staged", module=ended.module, reason=str(error))
            ended.verdict, ended.detail = "failed", f"it could not be staged: {error}"
            return None
        ended.artifact = artifact.name
        ended.candidate_id = candidate_id(ended.module, artifact.version, ended.incumbent)
        return artifact

    def _propose(self, cycle: Cycle, ended: Ended, artifact: Artifact, expires_us: int) -> None:
        gain = (ended.fitness or 0.0) - (ended.incumbent_fitness or 0.0)
        proposed = proposal(
            ended.module, artifact.name, artifact.sha256, candidate=ended.candidate_id or "", source="tournament",
            priority=gain, rationale=f"better on held-out history: {ended.detail}",
            expires_ts=us_to_seconds(expires_us),
        )  # fmt: skip
        cycle.emit("Q_IMPROVEMENT_ACTION", proposed, incident_id=ended.candidate_id)

    def _announce(self, cycle: Cycle, ended: Ended, artifact: Artifact | None) -> None:
        self._ended.labels(ended.module, ended.verdict).inc()
        facts = TournamentFacts(
            candidate=ended.parameters, incumbent=ended.incumbent, fitness=ended.fitness, verdict=ended.verdict,
            artifact=ended.artifact, module_name=ended.module, incumbent_fitness=ended.incumbent_fitness,
            examples=ended.held_out, sha256=artifact.sha256 if artifact else None, rounds=ended.rounds,
            tournament_id=ended.tournament_id, candidate_id=ended.candidate_id, p_value=ended.p_value,
            detail=ended.detail,
        )  # fmt: skip
        cycle.emit("Q_TOURNAMENT_COMPLETE", facts, incident_id=ended.candidate_id or ended.tournament_id)
        cycle.log.info(
            "tournament_ended", module=ended.module, tournament=ended.tournament_id, verdict=ended.verdict,
            detail=ended.detail, candidate=ended.candidate_id,
        )  # fmt: skip

    def on_reload(self) -> None:
        self._own.reload()


if __name__ == "__main__":
    sys.exit(main(TournamentConsumerDaemon))
