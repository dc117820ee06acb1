"""What a question names: units, daemons, mounts, devices, processes, ports, hosts, signals. Pure.

Two questions that name different things are different questions, however alike their wording is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from kloros.consumers.dedup.lexicon import CONCEPTS, is_stop_word, stem

# More of a text than this says nothing new, and must not cost anything either.
MAX_TEXT_CHARS = 1_000
MAX_NAMES = 32
_MANY = 2_048

_MARK = re.compile(r"<\w+>|…")
_VARIES = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"  # a UUID
    r"|\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d\S*)?"
    r"|\b0x[0-9a-f]+\b|\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b",
    re.IGNORECASE,
)
_UNIT_TYPES = "service|socket|timer|mount|automount|target|path|slice|scope|swap|device"
_NUMBERED = "port|pid|process|core|cpu|vlan|uid|gid|user|node|host|job|slot|channel|line|lun|raid|md|tty|display"
_NAME = re.compile(
    rf"(?P<process>(?<![\w.+:/-])[A-Za-z_][\w.+:/-]*)\[(?P<pid>\d+)\]"
    rf"|(?P<unit>(?<![\w@.-])[\w@:][\w@:.\\-]*)\.(?P<kind>{_UNIT_TYPES})\b"
    r"|(?P<url>\b\w+://[^\s'\"<>),;]+)"
    r"|(?P<path>(?<![\w/.)])/(?:[\w@.+:~-]+(?:/[\w@.+:~-]+)*/?)?(?![\w/]))"
    r"|(?P<address>(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\w.])"
    r"|(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    rf"|\b(?P<what>{_NUMBERED})(?: number| no\.)? #?(?P<number>\d+)\b(?! ?(?:%|ms|s|mib|gib|kib|times)\b)"
    r"|(?P<status>\b\d{3}/[A-Z_]+\b|(?<=with )signal \d+\b|(?<=after )signal \d+\b|\bSIG[A-Z]{3,}\b)"
    r"|(?P<signal>\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b|\b(?:HEARTBEAT|OBSERVATION)\b)"
    r"|(?P<snake>\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b)"
    r"|(?P<host>(?<![\w.-])[a-z][\w-]*(?:\.[a-z][\w-]*){1,}\b(?!\())"
    r"|(?P<mixed>(?<![\w-])(?:(?=[a-z-]*\d)[a-z][a-z0-9]*(?:-[a-z0-9]+)*\b|[a-z]+(?:-[a-z]+)*-[a-z0-9]*\d[a-z0-9]*\b))"
)
_PID_BESIDE = (
    re.compile(r"\b(?:process|pid) (\d+) \(([A-Za-z_][\w.+-]*)\)"),
    re.compile(r"\b([A-Za-z_][\w.+-]*) \((?:process|pid) (\d+)\)"),
)
_OURS = re.compile(
    r"\b((?:chem[ -]proxy|chembus[ -]historian|curiosity[ -]core[ -]consumer|semantic[ -]dedup[ -]consumer|"
    r"investigation[ -]consumer|action[ -]consumer|ledger[ -]writer|tournament[ -]consumer))(?:[ -]daemon)?\b"
)
_ROOT = re.compile(r"\b(?:the )?(?:root) (?:file ?system|partition|disk|volume|mount)\b", re.IGNORECASE)
_BESIDE_KIND = (
    re.compile(
        r"\b(?P<word>[A-Za-z][\w-]*) (?P<kind>service|unit|daemon|container|partition|user|scanner|interface|entry)\b"
    ),
    re.compile(r"\b(?P<kind>service|unit|daemon|container|user|scanner|entry) (?:of )?(?P<word>[A-Za-z][\w-]*)\b"),
)
_ASKED_ABOUT = re.compile(
    r"\b(?:does|do|did|is|are|was|were|has|have|had|can|could|may|will|makes?|made|causes?|caused|lets?|of|from|by|for)"
    r" (?:the )?(?P<word>[A-Za-z][a-z]{2,}(?:-[a-z]+)*)\b"
)
_NAMESPACES = frozenset({"partition", "scanner", "user"})
_SCANNERS = frozenset({"bus", "descriptors", "disk", "journal", "memory", "pressure", "units"})


class Names(NamedTuple):
    """What a text names, first what it names first. `certain`: what is a name by its form; `guessed`: by its place."""

    certain: tuple[str, ...]
    guessed: tuple[str, ...]
    codes: tuple[str, ...]
    rest: str
    """The text without them, in lower case."""


@lru_cache(maxsize=_MANY)
def names_of(text: str) -> Names:
    """What `text` names, and what else it says."""
    text = _spelled_alike(text[:MAX_TEXT_CHARS])
    certain: dict[str, None] = {}
    codes: dict[str, None] = {}
    rest, at = [], 0
    for found in _NAME.finditer(text):
        if found["status"]:
            codes[found["status"].lower()] = None
        elif names := _named(found):
            certain.update(dict.fromkeys(names))
        else:
            continue
        rest.append(text[at : found.start()])
        at = found.end()
    rest.append(text[at:])
    remaining, of_kind = _of_kind(" ".join(rest))
    guessed, remaining = (dict[str, None](), remaining) if certain or of_kind else _asked_about(remaining)
    certain.update(dict.fromkeys(of_kind))
    in_order = sorted(certain, key=str.isupper)  # a signal is what something happens to, hardly ever who does it
    return Names(tuple(in_order)[:MAX_NAMES], tuple(guessed), tuple(codes), remaining.lower())


def differ(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two texts name different things: both name something, and neither all that the other does."""
    return bool(one) and bool(other) and not (one <= other or other <= one)


def _spelled_alike(text: str) -> str:
    text = _VARIES.sub(" ", _MARK.sub(" ", text)).replace("\u2019", "'")
    text = _PID_BESIDE[0].sub(r"\2[\1]", text)
    text = _PID_BESIDE[1].sub(r"\1[\2]", text)
    text = _OURS.sub(lambda found: re.sub("[ -]", "_", found[1]), text)
    return _ROOT.sub("/", text)


def _named(found: re.Match[str]) -> list[str]:
    if found["process"]:
        return [_plain(found["process"]), f"pid {found['pid']}"]
    if found["unit"]:
        name = _plain(found["unit"])
        return [name if found["kind"] == "service" else f"{name}.{found['kind']}"]
    if found["path"]:
        return [found["path"].removeprefix("/dev/").rstrip("/") or "/"]
    if found["number"]:
        what = "pid" if found["what"] == "process" else found["what"]
        return [f"{what} {found['number']}"]
    if found["snake"]:
        return [_plain(found["snake"])]
    if found["signal"]:
        return [found["signal"]]
    if found["mixed"] and stem(found["mixed"]) in CONCEPTS:
        return []
    return [found[0].lower()]


def _plain(name: str) -> str:
    """One name for a daemon of the suite, whether its unit, its zooid or its file is named."""
    name = name.lower()
    if name.startswith("kloros-"):
        name = name.removeprefix("kloros-").replace("-", "_")
    return name.removesuffix("_daemon")


def _of_kind(text: str) -> tuple[str, list[str]]:
    """`the nginx service`, `user alice`: the word beside is a name."""
    names = []

    def take(found: re.Match[str]) -> str:
        word, kind = found["word"].lower(), found["kind"].lower()
        if not (kind == "scanner" and word in _SCANNERS) and (is_stop_word(word) or stem(word) in CONCEPTS):
            return found[0]
        names.append(f"{kind} {word}" if kind in _NAMESPACES else word)
        return " "

    for pattern in _BESIDE_KIND:
        text = pattern.sub(take, text)
    return text, names


def _asked_about(text: str) -> tuple[dict[str, None], str]:
    """`Why does nginx fail`: a word that means nothing else, where what is asked about stands."""
    for found in _ASKED_ABOUT.finditer(text):
        word = found["word"].lower()
        if not is_stop_word(word) and stem(word) not in CONCEPTS:
            return {word: None}, text[: found.start("word")] + " " + text[found.end("word") :]
    return {}, text
