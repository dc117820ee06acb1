"""What somebody claims to be an action, as an action, or refused. Pure; nothing that is in it is ever run or opened."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from kloros.optimisation.model import THRESHOLDS, ActionKind, ImprovementAction, Parameters

MOST_TEXT = 1_000
MOST_PARAMETERS = 32
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.@:-]{0,127}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_ARTIFACT = re.compile(r"([a-z][a-z0-9_]{0,63})/([a-z0-9][a-z0-9.-]{0,63})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CODE = frozenset({"code", "new_code", "source_code", "script", "command", "exec", "eval", "payload", "url", "path"})
_SWAP = frozenset({"artifact", "sha256", "target_version", "candidate_id", "source", "reason", "aim"})
_NUMBERS = frozenset({"delta", "suggested_delta", "budget_factor", "factor", "pace"})
_WORDS = {"low": 0.25, "medium": 0.5, "high": 0.75, "critical": 1.0}


class Refusal(NamedTuple):
    """Why something is no action, and as much of it as can be told without harm."""

    reason_code: str
    detail: str
    action: ImprovementAction


class _Bad(Exception):
    """Says what is wrong with it."""

    def __init__(self, reason_code: str, detail: str) -> None:
        super().__init__(detail)
        self.reason_code, self.detail = reason_code, detail


def parse(raw: object) -> ImprovementAction | Refusal:
    """An action of which every field is of its type, finite and of a bounded size; or why not."""
    try:
        fields = _fields(raw)
        return _flag(fields) if _kind_or_none(fields) is ActionKind.FLAG_FOR_REVIEW else _action(fields)
    except _Bad as bad:
        return Refusal(bad.reason_code, bad.detail, _as_far_as_known(raw))
    except Exception as error:  # noqa: BLE001 - what it is made of may do anything when it is looked at
        return Refusal("malformed", f"it cannot be read: {type(error).__name__}", _as_far_as_known(None))


def claims_to_be_a_flag(raw: object) -> bool:
    """Whether it wants to be a flag, however badly it is made."""
    try:
        return _kind_or_none(_fields(raw)) is ActionKind.FLAG_FOR_REVIEW
    except Exception:  # noqa: BLE001 - as in parse
        return False


def number_of(text: str) -> float | None:
    """A plain, finite, decimal number; None for anything else."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def cut(text: str) -> str:
    """A text of a size that can be kept, without what a terminal would obey."""
    shown = "".join(each if each.isprintable() else " " for each in text[:MOST_TEXT])
    return shown if len(text) <= MOST_TEXT else f"{shown[: MOST_TEXT - 3]}..."


def _fields(raw: object) -> Mapping[str, object]:
    if isinstance(raw, ImprovementAction):
        return msgspec.structs.asdict(raw)
    if isinstance(raw, Mapping):
        return raw
    raise _Bad("malformed", f"{type(raw).__name__[:60]} is no action")


def _kind_or_none(fields: Mapping[str, object]) -> ActionKind | None:
    kind = fields.get("action_kind")
    return ActionKind(kind) if isinstance(kind, str) and kind in ActionKind.__members__ else None


def _action(fields: Mapping[str, object]) -> ImprovementAction:
    kind = _kind_or_none(fields)
    if kind is None:
        raise _Bad("unknown_kind", f"there is no kind of action called {_told(fields.get('action_kind'))}")
    module = fields.get("module_name")
    if not isinstance(module, str) or not _MODULE.fullmatch(module):
        raise _Bad("bad_module", f"{_told(module)} is no name of a module")
    parameters = _parameters(fields.get("parameters", ()))
    _check_parameters(kind, module, dict(parameters))
    return ImprovementAction(
        module_name=module, action_kind=kind, priority=_priority(fields.get("priority", 0.5)),
        rationale=_text(fields.get("rationale"), "rationale"), parameters=parameters,
        action_id=_identity(fields.get("action_id")), created_at=_moment(fields.get("created_at"), "created_at"),
        expires_at=_moment(fields.get("expires_at"), "expires_at"), source=_text(fields.get("source"), "source")[:128],
    )  # fmt: skip


def _flag(fields: Mapping[str, object]) -> ImprovementAction:
    """A flag is never refused for its form: what is wrong with it is left out."""

    def or_else(read: object, default: object) -> object:
        return read if read is not None else default

    priority = fields.get("priority")
    is_share = isinstance(priority, float | int) and not isinstance(priority, bool) and 0 <= priority <= 1
    pairs = fields.get("parameters") or ()
    pairs = tuple(pairs.items()) if isinstance(pairs, Mapping) else pairs
    kept = tuple(
        (cut(str(pair[0]))[:64], cut(str(pair[1])))
        for pair in (pairs if isinstance(pairs, tuple | list) else ())[:MOST_PARAMETERS]
        if isinstance(pair, tuple | list) and len(pair) == 2
    )
    identity = fields.get("action_id")
    created_at = fields.get("created_at")
    return ImprovementAction(
        module_name=cut(str(or_else(fields.get("module_name"), "unknown")))[:128] or "unknown",
        action_kind=ActionKind.FLAG_FOR_REVIEW,
        priority=float(priority) if is_share and isinstance(priority, float | int) else 0.5,
        rationale=cut(str(or_else(fields.get("rationale"), ""))), parameters=kept,
        action_id=cut(identity)[:256] if isinstance(identity, str) else "",
        created_at=float(created_at) if isinstance(created_at, float | int) and math.isfinite(created_at) else None,
        source=cut(str(or_else(fields.get("source"), "")))[:128],
    )  # fmt: skip


def _parameters(raw: object) -> Parameters:
    pairs = tuple(raw.items()) if isinstance(raw, Mapping) else raw
    if not isinstance(pairs, tuple | list) or len(pairs) > MOST_PARAMETERS:
        raise _Bad("bad_parameters", f"parameters are at most {MOST_PARAMETERS} pairs of texts")
    kept: dict[str, str] = {}
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise _Bad("bad_parameters", "parameters are pairs of texts")
        key, value = pair
        if isinstance(value, float | int) and not isinstance(value, bool) and isinstance(raw, Mapping):
            value = str(value)
        if not isinstance(key, str) or not isinstance(value, str) or not _KEY.fullmatch(key) or key in kept:
            raise _Bad("bad_parameters", f"{_told(key)} is no parameter")
        if len(value) > MOST_TEXT or not value.isprintable():
            raise _Bad("bad_parameters", f"the value of {key} is too long, or no plain text")
        kept[key] = value
    return tuple(kept.items())


def _check_parameters(kind: ActionKind, module: str, given: dict[str, str]) -> None:
    carried = sorted(_CODE.intersection(map(str.lower, given)))
    if carried:
        raise _Bad("carries_code", f"code, commands and paths are never taken from an action ({carried[0]})")
    for key in _NUMBERS.intersection(given):
        if number_of(given[key]) is None:
            raise _Bad("bad_number", f"{key} is {_told(given[key])}; it must be a plain, finite number")
    if kind is ActionKind.TUNE_THRESHOLD and given.get("metric", THRESHOLDS[0]) not in THRESHOLDS:
        raise _Bad("unknown_metric", f"{_told(given['metric'])} is no threshold; those are {', '.join(THRESHOLDS)}")
    if kind is ActionKind.HOT_SWAP_MODULE:
        _check_swap(module, given)


def _check_swap(module: str, given: dict[str, str]) -> None:
    strange = sorted(set(given) - _SWAP)
    if strange:
        raise _Bad("bad_parameters", f"a swap has no parameter {strange[0]}")
    artifact, sha256 = given.get("artifact"), given.get("sha256")
    if artifact is not None:
        named = _ARTIFACT.fullmatch(artifact)
        if not named or ".." in artifact or named[1] != module:
            raise _Bad("bad_artifact", f"{_told(artifact)} is no staged version of {module}")
        if sha256 is None:
            raise _Bad("bad_artifact", "an artifact is named together with the SHA-256 of its manifest")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise _Bad("bad_artifact", "that is no SHA-256")
    version = given.get("target_version")
    if version is not None and (not _VERSION.fullmatch(version) or ".." in version):
        raise _Bad("bad_artifact", f"{_told(version)} is no version")


def _priority(raw: object) -> float:
    if raw is None:
        return 0.5
    value = _WORDS.get(raw.lower(), number_of(raw)) if isinstance(raw, str) else raw
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value <= 1:
        raise _Bad("bad_priority", f"the priority is {_told(raw)}; it must be from 0 to 1")
    return float(value)


def _moment(raw: object, name: str) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, float | int) or not 0 <= raw <= 1e11:
        raise _Bad("bad_moment", f"{name} is {_told(raw)}; it must be seconds since the Unix epoch")
    return float(raw)


def _text(raw: object, name: str) -> str:
    if raw is None:
        return ""
    if not isinstance(raw, str):
        raise _Bad("malformed", f"{name} is no text")
    return cut(raw)


def _identity(raw: object) -> str:
    if raw is None:
        return ""
    if not isinstance(raw, str) or len(raw) > 256 or not raw.isprintable():
        raise _Bad("bad_id", "its id is no plain text of at most 256 characters")
    return raw


def _told(raw: object) -> str:
    return repr(raw[:80]) if isinstance(raw, str) else repr(raw)[:80] if isinstance(raw, float | int) else "that"


def _as_far_as_known(raw: object) -> ImprovementAction:
    """Something that is no action, as far as it can be told: of its kind, or as a flag where that is not known."""
    try:
        fields = _fields(raw)
        kind = _kind_or_none(fields) or ActionKind.FLAG_FOR_REVIEW
        return msgspec.structs.replace(_flag(fields), action_kind=kind)
    except Exception:  # noqa: BLE001 - as above
        return ImprovementAction("unknown", ActionKind.FLAG_FOR_REVIEW, 0.5, "")
