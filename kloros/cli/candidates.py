"""`kloros candidates`: what parameters are played for, what is tried in the shadow, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.stored import one_of, stored_by
from kloros.cli.units import duration, moment
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.consumers.candidates.drift import Limits
    from kloros.consumers.candidates.store import Ended, Trial
    from kloros.consumers.candidates.turns import Turns

app = typer.Typer(
    help="See what parameters are played for, what is tried in the shadow, and what came of it.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

MODULE_COLUMNS = ("module", "in force", "what it does now")
TRIAL_COLUMNS = ("candidate", "module", "verdict", ">watched", ">to go", ">decisions", ">drift", ">worst", "change")
TOURNAMENT_COLUMNS = ("tournament", "ended", "module", "verdict", ">rounds", ">fitness", "why")
SHOWN = 20
EVERYTHING = 100_000
STYLES = {
    "promote": "green", "proposed": "green", "rolled_back": "red", "failed": "red", "refused": "red",
    "on trial": "bold yellow",
}  # fmt: skip

AllOption = Annotated[bool, typer.Option("--all", help="All that is remembered, not only the newest.")]


@app.callback()
def candidates(context: typer.Context, everything: AllOption = False, json: JsonOption = False) -> int:
    """See each module's parameters, the candidates in the shadow (drift, time to go), and the tournaments."""
    if context.invoked_subcommand is not None:
        return 0
    turns, ended = _tournaments(EVERYTHING if everything or json else SHOWN)
    running, over = _trials(EVERYTHING if everything or json else SHOWN)
    limits = _limits()
    in_force = _in_force({*turns.ready, *(each.module for each in ended)})
    if json:
        as_json(
            {"modules": {name: _module_fields(name, in_force[name], turns) for name in sorted(in_force)},
             "trials": [_trial_fields(each, limits) for each in (*running, *over)], "tournaments": ended,
             "playing": turns.current, "waiting": turns.waiting, "refused": turns.refused}
        )  # fmt: skip
        return 0
    if in_force:
        table(MODULE_COLUMNS, [(name, in_force[name], _doing(name, turns, running)) for name in sorted(in_force)])
    if running or over:
        say("")
        table(TRIAL_COLUMNS, [_trial_row(each, limits) for each in (*running, *over)], spare=("decisions", "watched"))
    if ended:
        say("")
        table(TOURNAMENT_COLUMNS, [_tournament_row(each) for each in ended], spare=("ended", "rounds"))
    say(f"{len(running)} on trial; {turns.played} tournaments played, {turns.refused} refused a place to wait")
    return 0


@app.command()
def show(
    candidate_id: Annotated[
        str, typer.Argument(metavar="ID", help="A candidate's or tournament's id, or its unique beginning.")
    ],
    json: JsonOption = False,
) -> int:
    """Show one candidate's trial, or one tournament: what was tried, against what, and what came of it."""
    from kloros.consumers.candidates.store import Trial

    running, over = _trials(EVERYTHING)
    by_id: dict[str, Trial | Ended] = {each.tournament_id: each for each in reversed(_tournaments(EVERYTHING)[1])}
    by_id |= {each.candidate_id: each for each in (*over, *running)}
    found = by_id[one_of(candidate_id, by_id, "candidate or tournament")]
    limits = _limits()
    if json:
        as_json(_trial_fields(found, limits) if isinstance(found, Trial) else found)
        return 0
    lines = _trial_lines(found, limits) if isinstance(found, Trial) else _tournament_lines(found)
    for name, value in lines.items():
        say(f"{name + ':':<12} {value}")
    return 0


# Reading


def _tournaments(most: int) -> tuple[Turns, list[Ended]]:
    from kloros.consumers.candidates import store
    from kloros.consumers.candidates.turns import Turns

    with stored_by("tournament_consumer") as stored:
        return stored.document("turns", Turns) or Turns(), store.tournaments(stored, most)


def _trials(most: int) -> tuple[list[Trial], list[Trial]]:
    """Those that go on, and those that have ended. None while the shadow has never run."""
    from kloros.consumers.candidates import store
    from kloros.errors import StoreUnusable
    from kloros.place import Place

    if not (Place.discover().state / "shadow/state.db").exists():
        return [], []
    with stored_by("shadow") as stored:
        if not stored.query("SELECT 1 FROM sqlite_master WHERE name = 'trials'"):
            raise StoreUnusable(path="shadow/state.db", reason="it is of an older version; is kloros-shadow running?")
        return store.trials(stored, ended=False, most=EVERYTHING), store.trials(stored, ended=True, most=most)


def _limits() -> Limits:
    from kloros.config import load_or_default
    from kloros.consumers.candidates.shadow_settings import ShadowSettings
    from kloros.place import Place

    return load_or_default(Place.discover().config / "shadow_config.toml", ShadowSettings).trial.limits()


def _in_force(modules: set[str]) -> dict[str, str]:
    from kloros.errors import ArtifactRefused
    from kloros.place import Place
    from kloros.storage.artifacts import artifacts_under, current_version

    root, found = artifacts_under(Place.discover().state), {}
    for module in modules:
        found[module] = "its settings file"
        with suppress(ArtifactRefused):
            found[module] = current_version(root, module) or found[module]
    return found


def to_go_s(trial: Trial, limits: Limits) -> float:
    """How long the candidate is watched yet, until its promotion is considered; 0 when it has ended."""
    if trial.ended_us is not None:
        return 0.0
    return max(0.0, (trial.progress.looks + 1) * limits.watch_s - trial.progress.observed_s)


def _module_fields(module: str, in_force: str, turns: Turns) -> dict[str, object]:
    ready = turns.ready.get(module)
    counts = {"labelled": ready.labelled, "fresh": ready.fresh, "lack": ready.lack} if ready else {}
    return {"in_force": in_force, **counts}


def _trial_fields(trial: Trial, limits: Limits) -> dict[str, object]:
    progress = trial.progress
    fields: dict[str, object] = {name: getattr(trial, name) for name in trial.__struct_fields__}
    del fields["progress"]
    return fields | {
        "observed_s": progress.observed_s, "to_go_s": to_go_s(trial, limits), "runs": progress.runs,
        "errors": progress.errors, "error_rate": progress.error_rate, "decisions": progress.keys,
        "worse": progress.worse, "better": progress.better, "drift": progress.mean_drift,
        "worst_drift": progress.worst_drift, "recent_drifts": progress.recent,
    }  # fmt: skip


# Telling


def _doing(module: str, turns: Turns, running: list[Trial]) -> str:
    tried = [each.candidate_id for each in running if each.module == module]
    if tried:
        return f"{', '.join(tried)} on trial"
    if turns.current and turns.current.module == module:
        return f"plays round {turns.current.rounds + 1} of tournament {turns.current.tournament_id}"
    if module in turns.waiting:
        return "waits for its turn"
    ready = turns.ready.get(module)
    return ready.lack if ready and ready.lack else "ready to play"


def _trial_row(trial: Trial, limits: Limits) -> Row:
    verdict, progress = trial.verdict or "on trial", trial.progress
    to_go = "-" if trial.ended_us is not None else duration(to_go_s(trial, limits))
    return (
        trial.candidate_id, trial.module, styled(verdict, STYLES.get(verdict, "yellow")), duration(progress.observed_s),
        to_go, str(progress.keys), f"{progress.mean_drift:.2%}", f"{progress.worst_drift:.1%}",
        _change(trial.incumbent, trial.parameters),
    )  # fmt: skip


def _tournament_row(ended: Ended) -> Row:
    return (
        ended.tournament_id, moment(ended.ended_us / US_PER_S), ended.module,
        styled(ended.verdict, STYLES.get(ended.verdict, "yellow")), str(ended.rounds), _fitness(ended), ended.detail,
    )  # fmt: skip


def _fitness(ended: Ended) -> str:
    if ended.fitness is None or ended.incumbent_fitness is None:
        return "-"
    return f"{ended.incumbent_fitness:.3f} -> {ended.fitness:.3f}"


def _change(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Only what is another."""
    changed = [f"{path} {before[path]:g} -> {after[path]:g}" for path in after if after[path] != before.get(path)]
    return ", ".join(changed) or "none"


def _trial_lines(trial: Trial, limits: Limits) -> dict[str, str]:
    progress = trial.progress
    lines = {
        "candidate": f"{trial.candidate_id} for {trial.module}, {trial.verdict or 'on trial'}",
        "change": _change(trial.incumbent, trial.parameters),
        "artifact": f"{trial.artifact}, SHA-256 {trial.sha256}",
        "since": moment(trial.started_us / US_PER_S),
        "watched": f"{duration(progress.observed_s)}, considered {progress.looks} times",
        "decisions": f"{progress.keys} in {progress.runs} runs, {progress.errors} of them failed",
        "judged": f"{progress.better:g} better, {progress.worse:g} worse than what is in force",
        "drift": f"{progress.mean_drift:.3%} in the mean, {progress.worst_drift:.1%} at worst",
    }
    if trial.ended_us is None:
        lines["to go"] = f"{duration(to_go_s(trial, limits))} until its promotion is considered"
    else:
        lines["ended"] = f"{moment(trial.ended_us / US_PER_S)}: {trial.detail}"
    if progress.last_error:
        lines["last error"] = progress.last_error
    return lines


def _tournament_lines(ended: Ended) -> dict[str, str]:
    champions = " ".join(f"{fitness:.3f}" for fitness in ended.champions)
    lines = {
        "tournament": f"{ended.tournament_id} of {ended.module}, {ended.verdict}",
        "when": f"{moment(ended.started_us / US_PER_S)} to {moment(ended.ended_us / US_PER_S)}",
        "why": ended.detail,
        "change": _change(ended.incumbent, ended.parameters),
        "champions": f"{champions} in {ended.rounds} rounds",
        "held out": f"{ended.held_out} decisions, fitness {_fitness(ended)}",
    }
    if ended.artifact:
        lines["artifact"] = f"{ended.artifact}, candidate {ended.candidate_id}"
    return lines
