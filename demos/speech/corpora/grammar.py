"""Sentences to say: a small grammar of numbers, dates, names and commands, several hundred words in all."""

import json
import pathlib

import numpy as np

GRAMMAR = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
FIELDS = {field: words.split() for field, words in GRAMMAR["fields"].items()}  # things have a plural in s
TEMPLATES = GRAMMAR["templates"]


def sentences(seed: int, count: int) -> list[str]:
    """Different sentences of 3 to 8 words, in lower case; those of a smaller count are the first of a larger one.

    Examples:
        >>> sentences(0, 2)
        ['matthew gray lives in tokyo', 'hide the orange pencil']
    """
    rng = np.random.default_rng([seed, 0x6772616D])
    found: dict[str, None] = {}
    while len(found) < count:
        found[_sentence(rng)] = None
    return list(found)


def _sentence(rng: np.random.Generator) -> str:
    pieces = []
    for word in TEMPLATES[rng.integers(len(TEMPLATES))].split():
        if word.startswith("{"):
            field, _, suffix = word[1:].partition("}")
            word = _number(rng) if field == "number" else FIELDS[field][rng.integers(len(FIELDS[field]))]
            word += suffix
        pieces.append(word)
    return " ".join(pieces)


def _number(rng: np.random.Generator) -> str:
    """A number in [2, 99], or hundreds, in words."""
    if rng.random() < 0.2:
        return f"{FIELDS['digit'][rng.integers(1, 10)]} hundred"
    tens, ones = divmod(int(rng.integers(2, 100)), 10)
    if tens == 1:
        return FIELDS["teen"][ones]
    words = [FIELDS["tens"][tens - 2]] if tens else []
    return " ".join([*words, FIELDS["digit"][ones]] if ones else words)
