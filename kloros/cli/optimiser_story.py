"""One action's whole story: why it was proposed, each gate's answer, what was changed and measured, the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kloros.cli.units import duration, moment
from kloros.optimisation import store
from kloros.optimisation.book import told as worded
from kloros.optimisation.gates import Gate
from kloros.optimisation.model import ActionKind
from kloros.optimisation.register import flag as flag_of
from kloros.optimisation.samples import Samples
from kloros.optimisation.samples import told as figures_told
from kloros.optimisation.store import Stage, Taken
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.optimisation.changes import Change
    from kloros.optimisation.flags import Flag
    from kloros.optimisation.settings import OptimiserSettings
    from kloros.storage.snapshot import Snapshot

WIDTH = 15
GATES = tuple(gate for gate in Gate if gate is not Gate.FLAG)
FLAG_GATES = (Gate.PARSE, Gate.DUPLICATE, Gate.FLAG)
QUESTIONS = {
    Gate.PARSE: "is it what it claims to be", Gate.EXPIRY: "is it still wanted", Gate.DUPLICATE: "is it new",
    Gate.FLAG: "is it for a person", Gate.MODE: "may this kind be done", Gate.PAUSED: "may anything be changed",
    Gate.DRY_RUN: "is it more than a rehearsal", Gate.COOL_DOWN: "was the last one long enough ago",
    Gate.BREAKER: "did little fail lately", Gate.CONFLICT: "is the module free", Gate.QUOTA: "is there room for it",
    Gate.BLAST_RADIUS: "are enough modules well", Gate.APPROVAL: "does a person agree", Gate.ACT: "can it be done",
}  # fmt: skip
# Of a swap, what is proposed is looked at before the gates; these come later.
_AFTER_GATES = ("at_its_bound", "not_there")
FIGURES = (
    ("calls", "cycles", 1.0, "g"), ("p50_ms", "p50", 1.0, "ms"), ("p95_ms", "p95", 1.0, "ms"),
    ("p99_ms", "p99", 1.0, "ms"), ("error_rate", "errors", 100.0, "%"), ("throughput_rps", "cycles/min", 60.0, "g"),
)  # fmt: skip


class GateAnswer(NamedTuple):
    """What a gate said; `answer` is passed, stopped, waits or not asked."""

    gate: str
    question: str
    answer: str
    why: str = ""


class Story(NamedTuple):
    """All that is known of an action. The figures are those that a verdict rests on, or would today."""

    action: Taken
    change: Change | None
    flag: Flag | None
    gates: list[GateAnswer]
    before: dict[str, float]
    after: dict[str, float]
    lacks: str = ""

    def fields(self) -> dict[str, object]:
        """For programs."""
        change = self.change
        return {
            "action": self.action, "why": self.action.raw.get("rationale"),
            "gates": [each._asdict() for each in self.gates], "change": change,
            "inverse": None if change is None else {"name": change.name, "value": change.inverse},
            "measured": {"before": self.before, "after": self.after}, "verdict": change.verdict if change else None,
            "flag": self.flag,
        }  # fmt: skip


def story(stored: Snapshot, action_id: str, settings: OptimiserSettings) -> Story:
    """The story of an action that is stored."""
    taken = store.action(stored, action_id)
    assert taken is not None
    change = store.change(stored, taken.change_id) if taken.change_id else None
    flag = flag_of(stored, taken.flag_id) if taken.flag_id else None
    before = figures_told(change.baseline) if change else {}
    after, lacks = _after(stored, taken, change, settings) if change else ({}, "")
    return Story(taken, change, flag, gates_of(taken), before, after, lacks)


def gates_of(taken: Taken) -> list[GateAnswer]:
    """Each gate's answer, in their order. Pure."""
    if taken.gate is None:
        yet = "" if taken.stage is Stage.ENDED else " yet"
        return [GateAnswer(str(gate), QUESTIONS[gate], f"not asked{yet}") for gate in GATES]
    is_flag = taken.kind == ActionKind.FLAG_FOR_REVIEW and taken.gate in FLAG_GATES
    order: tuple[Gate, ...] = FLAG_GATES if is_flag else GATES
    is_swap = taken.kind == ActionKind.HOT_SWAP_MODULE
    why = taken.detail or taken.waits_for or ""
    if taken.stage is Stage.WAITING and taken.flag_id:
        why = f"kloros review approve {taken.flag_id}"
    if is_swap and taken.gate == Gate.ACT and taken.change_id is None and taken.reason_code not in _AFTER_GATES:
        looked_at = GateAnswer("artifact", "is it staged, tried and swappable", "stopped", why)
        return [looked_at, *(GateAnswer(str(gate), QUESTIONS[gate], "not asked") for gate in order)]
    at = next((number for number, gate in enumerate(order) if gate == taken.gate), len(order))
    answers = []
    for number, gate in enumerate(order):
        answer, said = "passed" if number < at else "not asked", ""
        if number == at:
            answer, said = _stopped(taken, gate), "" if taken.change_id or gate is Gate.FLAG else why
        if gate is Gate.APPROVAL and taken.decided_by and number <= at:
            said = f"{taken.decided_by}: {taken.decided_reason}" if taken.decided_reason else taken.decided_by
        answers.append(GateAnswer(str(gate), QUESTIONS[gate], answer, said))
    return answers


def _stopped(taken: Taken, gate: Gate) -> str:
    if gate is Gate.FLAG or taken.change_id is not None:
        return "passed"
    return "waits" if taken.stage in (Stage.WAITING, Stage.QUEUED) else "stopped"


def _after(stored: Snapshot, taken: Taken, change: Change, settings: OptimiserSettings) -> tuple[dict[str, float], str]:
    """The figures since the change settled, up to its end: as the bus was told; else from the samples that are kept."""
    if change.made_us is None:
        return {}, "it was never in force"
    if change.ended_us is not None and (heard := _told_by_history(taken.action_id, change.change_id)):
        return heard, ""
    from kloros.clock import SystemClock

    stem = settings.hot_swap.modules.get(change.module_name, change.module_name)
    until_us = change.ended_us or SystemClock().wall_us()
    after = figures_told(Samples(stored, settings).since(change, stem, until_us))
    if after:
        return after, ""
    return {}, "no cycle is kept from after it settled" if change.ended_us else "no cycle since it settled"


def _told_by_history(action_id: str, change_id: str) -> dict[str, float]:
    from kloros.chembus.facts_work import ReflectionFacts
    from kloros.cli.history import message_of, open_history
    from kloros.errors import StoreUnusable
    from kloros.storage.history_rows import Record, Wanted

    try:
        with open_history() as history:
            for entry in history.read(Wanted(signals=("Q_REFLECTION_REPORT",), incident_id=action_id)):
                message = message_of(entry) if isinstance(entry, Record) else None
                if message and isinstance(message.facts, ReflectionFacts) and message.facts.change_id == change_id:
                    return message.facts.after
    except StoreUnusable:
        pass
    return {}


# Telling


def told(found: Story) -> list[tuple[str, str]]:
    """The story in lines, each with its style. Pure."""
    taken, change = found.action, found.change
    lines = [(f"{taken.kind} of {taken.module}, {taken.action_id}: {_state(taken, change)}", "bold")]
    lines += [(f"  {name + ':':<{WIDTH}} {value}", "") for name, value in _proposal(taken) if value]
    lines.append(("the gates", "bold"))
    for each in found.gates:
        why = f"  {each.why}" if each.why else ""
        style = {"passed": "green", "stopped": "red", "waits": "yellow"}.get(each.answer, "dim")
        lines.append((f"  {each.gate:<{WIDTH}} {each.question:<34} {each.answer}{why}", style))
    if change is None:
        lines.append((f"nothing was changed{': ' + taken.detail if taken.detail else ''}", "bold"))
    else:
        lines += _change_lines(found, change)
    if found.flag is not None:
        flag = found.flag
        lines.append((f"flag {flag.flag_id}, {flag.state}: {flag.rationale} (kloros review show {flag.flag_id})", ""))
    # What came off the bus is somebody else's text.
    return [(_plain(line), style) for line, style in lines]


def _state(taken: Taken, change: Change | None) -> str:
    if taken.stage is Stage.WAITING:
        return f"waits for {taken.waits_for}"
    if taken.stage is not Stage.ENDED:
        return str(taken.stage)
    if change is None:
        return f"{taken.status} ({(taken.reason_code or '').replace('_', ' ')})"
    return f"{taken.status}, {change.verdict or f'to be verified ({change.state})'}"


def _proposal(taken: Taken) -> list[tuple[str, str]]:
    raw = taken.raw
    parameters = raw.get("parameters")
    pairs = parameters.items() if isinstance(parameters, dict) else ()
    decided = f"{taken.decided_by} at {_at(taken.decided_us)}" if taken.decided_us else ""
    priority = raw.get("priority")
    return [
        ("why", str(raw.get("rationale") or "")),
        ("proposed by", f"{taken.source or 'somebody'} at {_at(taken.taken_us)}"),
        ("heard", f"{taken.heard} times" if taken.heard > 1 else ""),
        ("priority", f"{priority:.2f}" if isinstance(priority, float) else str(priority or "")),
        ("parameters", " ".join(f"{name}={value}" for name, value in pairs)),
        ("mode", taken.mode or ""),
        ("expires", _at(taken.expires_us) if taken.stage is not Stage.ENDED else ""),
        ("decided by", decided),
        ("ended", f"{_at(taken.ended_us)}: {taken.detail}" if taken.ended_us else ""),
    ]


def _change_lines(found: Story, change: Change) -> list[tuple[str, str]]:
    back = "" if change.is_restored is None else ", it is back" if change.is_restored else ", it was left"
    rows = [
        ("changed", f"{change.name}, at {_at(change.written_us)}"),
        ("before", worded(change.before)),
        ("after", worded(change.after)),
        ("inverse", f"{change.name} {worded(change.inverse)}{back}"),
        ("made for", str(change.aim).replace("_", " ")),
        ("lease", f"until {_at(change.lease_until_us)}" if change.is_open else ""),
        ("undone", f"tried {change.undo_attempts} times" if change.undo_attempts else ""),
    ]
    lines = [(f"the change {change.change_id}, {change.state}", "bold")]
    lines += [(f"  {name + ':':<{WIDTH}} {value}", "") for name, value in rows if value]
    lines += _measured(found)
    if change.verdict is None:
        lines.append(("verdict: none yet", "yellow"))
    else:
        style = {"CONFIRMED": "bold green", "REVERTED": "bold red"}.get(change.verdict, "bold yellow")
        took = duration(((change.ended_us or 0) - change.written_us) / US_PER_S)
        lines.append((f"verdict: {change.verdict}, {change.reason} (after {took})", style))
    return lines


def _measured(found: Story) -> list[tuple[str, str]]:
    if not found.before and not found.after:
        return [(f"  {'measured:':<{WIDTH}} nothing before{', ' + found.lacks if found.lacks else ''}", "dim")]
    lines = [(f"  {'measured:':<{WIDTH}} {'before':>12} {'after':>12}", "")]
    for key, name, factor, unit in FIGURES:
        cells = [_figure(side.get(key), factor, unit) for side in (found.before, found.after)]
        lines.append((f"  {'  ' + name:<{WIDTH}} {cells[0]:>12} {cells[1]:>12}", ""))
    return [*lines, (f"  {'':<{WIDTH}} ({found.lacks})", "dim")] if found.lacks else lines


def _figure(value: float | None, factor: float, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "ms":
        return duration(value / 1000)
    return f"{value * factor:.3g}{' %' if unit == '%' else ''}"


def _plain(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip(" "))]
    return indent + "".join(each if each.isprintable() else " " for each in line[len(indent) :])


def _at(us: int | None) -> str:
    return "" if us is None else moment(us / US_PER_S)
