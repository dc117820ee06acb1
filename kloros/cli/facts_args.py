"""key=value arguments -> facts, typed by what the signal carries. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import msgspec

from kloros.chembus.declaration import Signal
from kloros.errors import BadFacts


def facts_from_pairs(signal: Signal, pairs: Iterable[str]) -> dict[str, Any]:
    """`interval_s=5 paused=true 'evidence=["a"]'` as facts. Raises BadFacts, with a suggestion where there is one."""
    types = {field.encode_name: field.type for field in msgspec.structs.fields(signal.facts)}
    facts: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise BadFacts(signal=signal.name, detail=f"{pair!r} is not key=value")
        if key not in types:
            raise BadFacts(signal=signal.name, detail=f"{key!r} is not one of its facts{_suggest(key, list(types))}")
        facts[key] = _typed(signal.name, key, text, types[key])
    return facts


def facts_from_json(signal: Signal, text: str) -> dict[str, Any]:
    """`{"interval_s": 5}` as facts; their shape is checked at emit. Raises BadFacts."""
    try:
        facts = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadFacts(signal=signal.name, detail=f"--facts is not JSON ({error})") from None
    if not isinstance(facts, dict):
        raise BadFacts(signal=signal.name, detail="--facts is not a JSON object")
    return facts


def _typed(signal: str, key: str, text: str, wanted: Any) -> Any:
    """The text as the field's own type; as JSON where the field is not a plain value."""
    try:
        return msgspec.convert(text, wanted, strict=False)
    except msgspec.ValidationError as error:
        plain_error = error
    try:
        return msgspec.convert(msgspec.json.decode(text), wanted)
    except (msgspec.DecodeError, UnicodeError):
        raise BadFacts(signal=signal, detail=f"{key}={text}: {_plain(plain_error)}") from None
    except msgspec.ValidationError as error:
        raise BadFacts(signal=signal, detail=f"{key}={text}: {_plain(error)}") from None


def _plain(error: Exception) -> str:
    words = {"`float": "`number", "`int": "`whole number", "`str": "`text", "`object": "`JSON object"}
    text = str(error)
    for machine, human in words.items():
        text = text.replace(machine, human)
    return text[:1].lower() + text[1:]


def _suggest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f" (did you mean {close[0]}?)"
    return f" (it carries {', '.join(known)})" if known else " (it carries none)"
