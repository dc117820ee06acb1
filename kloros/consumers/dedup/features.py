"""A question as weighted features: what it names apart from what it says. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from kloros.consumers.dedup.lexicon import CONCEPTS, is_stop_word, stem, with_phrases_as_words
from kloros.consumers.dedup.names import Names, names_of

# What is named makes up this share of a question that names something; see docs/decisions/0011.
NAMES_SHARE = 0.45
_LATER_NAME = 0.35
_CODE = 1.2
_UNKNOWN_WORD = 0.8
# A word that means nothing here is also compared by its parts, so that another ending changes little.
_PARTS_OF_WORD = 0.4
_PART_CHARS = 3

_WORD = re.compile(r"[a-z][a-z'-]*[a-z]|[a-z]")


def features_of(text: str) -> dict[str, float]:
    """The features of a text, of length one in all; empty for a text that says nothing."""
    names = names_of(text)
    said = _unit(_said(names))
    named = _unit(_named(names))
    if not named or not said:
        return named or said
    share = math.sqrt(NAMES_SHARE), math.sqrt(1.0 - NAMES_SHARE)
    return {
        **{feature: share[0] * weight for feature, weight in named.items()},
        **{feature: share[1] * weight for feature, weight in said.items()},
    }


def _named(names: Names) -> dict[str, float]:
    every = names.certain or names.guessed
    return {f"name {name}": _LATER_NAME if place else 1.0 for place, name in enumerate(every)}


def _said(names: Names) -> dict[str, float]:
    said = {f"code {code}": _CODE for code in names.codes}
    for word in _WORD.findall(with_phrases_as_words(names.rest)):
        if is_stop_word(word):
            continue
        root = stem(word)
        if known := CONCEPTS.get(root):
            concept, weight = known
            if weight:
                said[f"about {concept}"] = weight
        elif not is_stop_word(root):
            said[f"word {root}"] = _UNKNOWN_WORD
            padded = f"_{root}_"
            parts = [padded[at : at + _PART_CHARS] for at in range(len(padded) - _PART_CHARS + 1)]
            for part in parts:
                said[f"part {part}"] = max(said.get(f"part {part}", 0.0), _PARTS_OF_WORD / math.sqrt(len(parts)))
    return said


def _unit(weights: Mapping[str, float]) -> dict[str, float]:
    length = math.sqrt(sum(weight * weight for weight in weights.values()))
    return {feature: weight / length for feature, weight in weights.items()} if length else {}
