"""Sentences to say: a small grammar of numbers, dates, names and commands, several hundred words in all."""

import numpy as np

FIELDS = {
    field: words.split()
    for field, words in {
        "digit": "zero one two three four five six seven eight nine",
        "teen": "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
        "tens": "twenty thirty forty fifty sixty seventy eighty ninety",
        "ordinal": "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
        "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth",
        "hour": "one two three four five six seven eight nine ten eleven twelve",
        "minute": "o'clock ten fifteen twenty thirty forty fifty",
        "part": "morning afternoon evening",
        "day": "monday tuesday wednesday thursday friday saturday sunday today tomorrow tonight",
        "month": "january february march april may june july august september october november december",
        "name": "alice amanda andrew anna anthony barbara benjamin brian carol catherine charles christine daniel "
        "david deborah dennis diana donald dorothy edward elizabeth emily emma frank george gloria grace hannah harold "
        "helen henry jacob james jane jennifer jessica john joseph julia karen kevin laura linda louis margaret maria "
        "martin matthew michael nancy nathan nicholas oliver olivia patrick paul peter philip rachel rebecca richard "
        "robert rose ruth samuel sandra sarah simon sophia stephen susan teresa thomas timothy victoria vincent walter "
        "william",
        "surname": "adams baker bennett brooks campbell carter clark collins cooper davies edwards evans foster gray "
        "green hall harris hill hughes jackson johnson jones kelly king lewis miller mitchell morgan murphy nelson "
        "parker phillips roberts robinson scott smith taylor thompson turner walker watson white wilson wood wright "
        "young",
        "city": "amsterdam athens berlin boston bristol cairo chicago dallas denver dublin geneva hamburg helsinki "
        "lisbon london madrid manchester melbourne milan montreal moscow oslo oxford paris prague rome sydney tokyo "
        "toronto vienna warsaw",
        "room": "kitchen bedroom bathroom hallway garage garden office attic cellar library",
        "device": "light lamp heater fan radio television printer oven kettle alarm camera speaker",
        "colour": "red orange yellow green blue purple pink brown black white silver golden",
        # With a plural in s.
        "thing": "apple basket bicycle blanket book bottle bucket button candle carpet chair clock coat cup curtain "
        "drum engine envelope feather flower guitar hammer hat jacket key kite ladder lemon letter map marble mirror "
        "newspaper notebook onion painting pencil piano pillow plate ring rope ruler shirt spoon table ticket towel "
        "umbrella violin wallet wheel window",
        "switch": "on off",
        "change": "raise lower set",
        "get": "find buy wash paint hide carry count",
        "send": "send give bring show sell",
        "place": "under behind beside near above",
    }.items()
}
TEMPLATES = (
    "call {name} {surname}",
    "call {digit} {digit} {digit} {digit} {digit}",
    "turn {switch} the {room} {device}",
    "turn the {colour} {device} {switch}",
    "{change} the {device} to {number} percent",
    "wake me at {hour} {minute}",
    "remind {name} on {day} {part}",
    "the {ordinal} of {month}",
    "{month} the {ordinal} at {hour} {minute}",
    "fly from {city} to {city} on {day}",
    "what is the weather in {city} {day}",
    "what is {number} plus {number}",
    "{send} {name} the {colour} {thing}",
    "{get} the {colour} {thing}",
    "{get} {number} {thing}s for {name}",
    "where is the {thing} from {city}",
    "the {thing} is {place} the {colour} {thing}",
    "meet {name} and {name} in {city}",
    "{name} {surname} lives in {city}",
    "play the {ordinal} song by {name} {surname}",
    "my number is {digit} {digit} {digit} {digit}",
)


def sentences(seed: int, count: int) -> list[str]:
    """Different sentences of 3 to 8 words, in lower case.

    Args:
        seed: integer of at least 0.
        count: how many; those of a smaller count are the first of a larger one.

    Examples:
        >>> sentences(0, 2)
        ['matthew gray lives in tokyo', 'hide the orange pencil']
    """
    rng = np.random.default_rng([seed, 0x6772616D])
    found: dict[str, None] = {}
    while len(found) < count:
        found[_sentence(rng)] = None
    return list(found)


def vocabulary() -> set[str]:
    """Every word that `sentences` can say."""
    fixed = {word for template in TEMPLATES for word in template.split() if "{" not in word}
    fields = {word for words in FIELDS.values() for word in words}
    return fixed | fields | {f"{thing}s" for thing in FIELDS["thing"]} | {"hundred"}


def _sentence(rng: np.random.Generator) -> str:
    pieces = []
    for word in TEMPLATES[rng.integers(len(TEMPLATES))].split():
        if word.startswith("{"):
            field, _, suffix = word[1:].partition("}")
            word = (_number(rng) if field == "number" else _choice(rng, field)) + suffix
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


def _choice(rng: np.random.Generator, field: str) -> str:
    return FIELDS[field][rng.integers(len(FIELDS[field]))]
