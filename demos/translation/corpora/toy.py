"""Numbers written out, in English to German: an endless language of a hundred words whose order differs."""

import numpy as np

from demos.translation.corpora.files import Corpus, Pairs

SIZES = {"train": 20_000, "dev": 400, "test": 600}
SEED = 1906
MOST_DIGITS = 6
NAMES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
    "twenty thirty forty fifty sixty seventy eighty ninety",
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn",
    "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
)
ENGLISH, ENGLISH_TENS, GERMAN, GERMAN_TENS = (names.split() for names in NAMES)


def english(number: int) -> str:
    """A number from 0 to 999,999 in English: 1,234 is one thousand, two hundred and thirty-four."""
    if number < 20:
        return ENGLISH[number]
    if number < 100:
        ten, one = divmod(number, 10)
        return ENGLISH_TENS[ten - 2] + (f"-{ENGLISH[one]}" if one else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{ENGLISH[hundreds]} hundred" + (f" and {english(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    joint = ", " if rest >= 100 else " and "
    return f"{english(thousands)} thousand" + (joint + english(rest) if rest else "")


def german(number: int) -> str:
    """The same in German: 1,234 is eintausendzweihundertvierunddreißig."""
    if number < 20:
        return GERMAN[number]
    if number < 100:
        ten, one = divmod(number, 10)
        return (f"{_counted(one)}und" if one else "") + GERMAN_TENS[ten - 2]
    name, unit = ("hundert", 100) if number < 1000 else ("tausend", 1000)
    many, rest = divmod(number, unit)
    return f"{_counted(many)}{name}" + (german(rest) if rest else "")


def _counted(number: int) -> str:
    """A number before hundert, tausend or und, where eins loses its s."""
    return german(number).removesuffix("s") if number % 100 == 1 else german(number)


def load() -> Corpus:
    """Numbers of one to six digits, each length as often, none of which is in two splits."""
    rng = np.random.default_rng(SEED)
    lengths = rng.integers(1, MOST_DIGITS + 1, 4 * sum(SIZES.values()))
    numbers = np.unique((10**lengths * rng.random(len(lengths))).astype(int))
    numbers, splits = iter(rng.permutation(numbers).tolist()), {}
    for split, size in SIZES.items():
        part = [next(numbers) for _ in range(size)]
        splits[split] = Pairs([english(n) for n in part], [german(n) for n in part], [], [str(n) for n in part])
    return Corpus("toy", splits)
