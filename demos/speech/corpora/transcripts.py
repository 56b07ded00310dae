"""What a transcript may look like: lower case, no punctuation, single spaces."""

import unicodedata


def normalise(text: str) -> str:
    """The text in lower case and NFKC, with letters, digits and apostrophes inside words, single spaces between them.

    Examples:
        >>> normalise("Don't  shout, O’Neill: it's 7 o'clock!")
        "don't shout o'neill it's 7 o'clock"
        >>> normalise(" -- ")
        ''
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower().replace("’", "'"))
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return " ".join(word for word in (word.strip("'") for word in kept.split()) if word)
