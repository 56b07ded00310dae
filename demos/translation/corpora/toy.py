"""Numbers written out, in English to German: an endless language of a hundred words whose order differs."""

import numpy as np

from demos.kit import seeds
from demos.translation.corpora.files import Corpus, Pairs

SIZES = {"train": 20_000, "dev": 400, "test": 600}
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


def load(train_pairs: int | None = None) -> Corpus:
    """Numbers of one to six digits, none of which is in two splits.

    Those to train on are as many as `SIZES` says, all different, or any number: beyond these each length is as likely.
    """
    rng = seeds.of_data()

    def drawn(count: int) -> np.ndarray:
        return (10 ** rng.integers(1, MOST_DIGITS + 1, count) * rng.random(count)).astype(int)

    numbers = iter(rng.permutation(np.unique(drawn(4 * sum(SIZES.values())))).tolist())
    parts = {split: [next(numbers) for _ in range(size)] for split, size in SIZES.items()}
    train, held_out, most = parts["train"], {*parts["dev"], *parts["test"]}, train_pairs or SIZES["train"]
    while len(train) < most:
        train += [n for n in drawn(most).tolist() if n not in held_out]
    parts["train"] = train[:most]
    sides = {split: [list(map(write, part)) for write in (english, german, str)] for split, part in parts.items()}
    return Corpus("toy", {split: Pairs(en, de, [], names) for split, (en, de, names) in sides.items()})
