"""Putting a staged version in force: by the optimiser, or by the pointer alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kloros.cli.module_versions import as_owner, is_system, note_before, promoted_as, root_of_artifacts
from kloros.cli.output import as_json, say, styled

if TYPE_CHECKING:
    from kloros.chembus.facts_work import EnactmentFacts, ImprovementFacts, ReviewFacts
    from kloros.storage.artifacts import Artifact

EXIT_NOT_DONE = 1
EXIT_SILENT = 3
# A swap is a restart, and a look whether it serves.
DONE_TIMEOUT_S = 60.0
EXPIRES_S = 600.0
AS_INSTALLED = "its settings file alone"


def propose(artifact: Artifact, reason: str, json: bool) -> int:
    """Have the optimiser do it, as an operator's action; returns the exit code."""
    from kloros.cli.client import Client, requester
    from kloros.cli.optimiser_talk import ask, end_of
    from kloros.errors import BusError

    try:
        with Client("HEARTBEAT", "Q_ENACTMENT", "FLAG_FOR_REVIEW", name="kloros_module") as client:
            if ask(client)[0] is None:
                return _say_absent("the optimiser does not answer")
            facts = _proposal(artifact, f"{requester()}: {reason}", client.now_ts())
            client.emit("Q_IMPROVEMENT_ACTION", facts, incident_id=facts.action_id)
            ended = end_of(client, facts.action_id, DONE_TIMEOUT_S)
    except BusError as error:
        return _say_absent(str(error))
    if json:
        as_json({"action_id": facts.action_id, "artifact": artifact.name, "sha256": artifact.sha256, "end": ended})
        return 0 if _is_done(ended) else EXIT_NOT_DONE
    return _tell(ended, facts.action_id, artifact)


def _proposal(artifact: Artifact, rationale: str, now_ts: float) -> ImprovementFacts:
    import hashlib

    from kloros.chembus.facts_work import ImprovementFacts

    named = f"{artifact.name}|{artifact.sha256}|{rationale}|{now_ts}"
    candidate = promoted_as(artifact)
    origin = {"source": "operator", **({"candidate_id": candidate} if candidate else {})}
    return ImprovementFacts(
        action_id="i-" + hashlib.sha256(named.encode()).hexdigest()[:8], module_name=artifact.module,
        action_kind="HOT_SWAP_MODULE", priority=1.0, rationale=rationale, expires_at=now_ts + EXPIRES_S,
        parameters={"artifact": artifact.name, "sha256": artifact.sha256, **origin},
    )  # fmt: skip


def _is_done(ended: EnactmentFacts | ReviewFacts | None) -> bool:
    from kloros.chembus.facts_work import EnactmentFacts

    return isinstance(ended, EnactmentFacts) and ended.status in ("SUCCESS", "PARTIAL")


def _tell(ended: EnactmentFacts | ReviewFacts | None, action_id: str, artifact: Artifact) -> int:
    from kloros.chembus.facts_work import EnactmentFacts

    look = f"kloros optimiser explain {action_id}"
    if ended is None:
        typer.echo(f"kloros: nothing came of it within {DONE_TIMEOUT_S:g} s; {look}", err=True)
        return EXIT_SILENT
    if not isinstance(ended, EnactmentFacts):
        say(styled(f"it waits for approval: kloros review approve {ended.flag_id}", "yellow"))
        return EXIT_NOT_DONE
    if _is_done(ended):
        say(styled(f"{artifact.module} runs with {artifact.version}, on probation: {ended.detail} ({look})", "green"))
        return 0
    cure = ""
    if ended.reason_code in ("off", "observed"):
        cure = f"; kloros optimiser mode hot_swap_module approve, or {_direct_words(artifact)}"
    elif ended.status == "SKIPPED":
        cure = f"; past the optimiser: {_direct_words(artifact)}"
    typer.echo(f"kloros: it was not done: {ended.status}, {ended.detail}{cure} ({look})", err=True)
    return EXIT_NOT_DONE


def _say_absent(why: str) -> int:
    typer.echo(
        f"kloros: {why}. Nothing was changed. With --direct, root or user kloros sets the pointer without it: then "
        f"nobody verifies what comes of it or takes it back",
        err=True,
    )
    return EXIT_SILENT


def _direct_words(artifact: Artifact) -> str:
    return f"kloros module activate {artifact.module} {artifact.version} --direct"


def set_pointer(module: str, artifact: Artifact | None, before: str | None, json: bool) -> int:
    """Do it past the optimiser, and say so; returns the exit code. `artifact` None: the settings file alone."""
    from kloros.cli.optimiser_mode import settings_in_force
    from kloros.cli.settings_edit import have_it_read
    from kloros.optimisation.swap import may_run_packages, unit_of
    from kloros.storage import artifacts

    with as_owner():
        if artifact is None:
            artifacts.drop_current(root_of_artifacts(), module)
        else:
            artifacts.make_current(root_of_artifacts(), module, artifact.version, artifact.sha256)
            note_before(module, artifact.version, before)
    if json:
        as_json({"module": module, "before": before, "after": artifact.version if artifact else None, "direct": True})
    else:
        after = artifact.version if artifact else AS_INSTALLED
        back = f"activate {module} {before}" if before else f"rollback {module} --installed"
        say(styled(f"{module} is to run with {after}: set directly, past the optimiser", "yellow"))
        say(f"nobody verifies it or takes it back; you do: kloros module {back} --direct")
    hot_swap = settings_in_force().hot_swap
    unit, must_restart = unit_of(hot_swap, module), may_run_packages(hot_swap, module)
    return have_it_read(unit, unit, is_installed=is_system(), is_quiet=json, must_restart=must_restart)
